"""Rooms that come all at once, and rooms on a busy machine: who gets an agent, and how soon.

    make bench-burst                        # or: python -m benchmarks.burst --help

`burst`: 20 rooms within one second. `overload`: every core kept busy by another process, 20 rooms
one after another. Callers are silent, so that the cores suffice; each joins its room, which
creates it, and waits for the agent's audio track. The same program (examples/timetable) and the
same livekit-server for voxray, the stock worker as PROCESS and as THREAD, and OpenRTC.

For the burst the stock worker's CPU limit is lifted, in its favour; under overload every system
has the settings that it comes with.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from livekit import rtc

from benchmarks.rivals import install_openrtc
from benchmarks.systems import RESULTS, SETTLE_S, System, machine, openrtc, running, systems
from voxray.actors.rtc_compat import quiet_native_runtime
from voxray.base.errors import ConfigError
from voxray.cli.home import build_home
from voxray.loadtest.access import LiveKitAccess, new_room_name
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install
from voxray.loadtest.report import percentile

Scenario = Literal["burst", "overload"]
_BURST_S = 1.0
"""All rooms of a burst are created within this time."""
_PATIENCE_S = 60.0
"""How long a caller waits before the room counts as left alone."""
_OVERLOAD_PATIENCE_S = 12.0


@dataclass(frozen=True, kw_only=True)
class Waited:
    """What one silent caller saw.

    Attributes:
        track_s: seconds from the creation of the room to the agent's published audio track; None
            when none came.
        agents: agents that were seen in the room.
    """

    track_s: float | None
    agents: int


async def wait_for_agent(access: LiveKitAccess, name: str, patience_s: float) -> Waited:
    """Create a room by joining it, wait for the agent's track, and leave."""
    room = rtc.Room()
    published = asyncio.Event()
    agents: set[str] = set()

    def look(*_: object) -> None:
        for participant in room.remote_participants.values():
            if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
                agents.add(participant.identity)
                if participant.track_publications:
                    published.set()

    room.on("participant_connected", look)
    room.on("track_published", look)
    created_s = time.monotonic()
    # It does not listen either: what a caller costs is not what is compared.
    options = rtc.RoomOptions(auto_subscribe=False)
    await room.connect(access.url, access.caller_token(name, "caller"), options)
    look()
    track_s: float | None = None
    try:
        async with asyncio.timeout(patience_s):
            await published.wait()
        track_s = time.monotonic() - created_s
    except TimeoutError:
        pass
    finally:
        await room.disconnect()
    return Waited(track_s=track_s, agents=len(agents))


async def burst(access: LiveKitAccess, rooms: int) -> list[Waited]:
    """Create all rooms within a second, evenly spread over it."""

    async def one(number: int) -> Waited:
        await asyncio.sleep(number * _BURST_S / rooms)
        return await wait_for_agent(access, new_room_name("burst"), _PATIENCE_S)

    return list(await asyncio.gather(*(one(number) for number in range(rooms))))


async def one_after_another(access: LiveKitAccess, rooms: int) -> list[Waited]:
    """Create room after room; nobody waits for the next one's agent before the last has left."""
    return [
        await wait_for_agent(access, new_room_name("busy"), _OVERLOAD_PATIENCE_S)
        for _ in range(rooms)
    ]


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy with a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    burners = [spawn.Process(target=_burn, daemon=True) for _ in range(os.cpu_count() or 1)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
            burner.join()


def _burn() -> None:
    parent = os.getppid()
    # Killed parents stop no children.
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


def figures(waited: Sequence[Waited]) -> dict[str, Any]:
    """Return the counts and percentiles of a scenario."""
    seconds = [each.track_s for each in waited if each.track_s is not None]
    return {
        "rooms": len(waited),
        "answered": len(seconds),
        "doubled": sum(each.agents > 1 for each in waited),
        "p50_s": round(statistics.median(seconds), 3) if seconds else None,
        "p95_s": round(percentile(seconds, 95), 3) if seconds else None,
        "max_s": round(max(seconds), 3) if seconds else None,
    }


async def measure(system: System, binary: Path, scenario: Scenario, rooms: int) -> dict[str, Any]:
    """Run one scenario against a fresh system."""
    async with LiveKitServer(binary) as server:
        access = LiveKitAccess(url=server.url, api_key=server.api_key, api_secret=server.api_secret)
        async with running(system, access):
            # The first call makes every system load what it loads once, and fill its pool.
            await wait_for_agent(access, new_room_name("first"), _PATIENCE_S)
            await asyncio.sleep(2 * SETTLE_S)
            if scenario == "burst":
                waited = await burst(access, rooms)
            else:
                with busy_cores():
                    # Load averages of a few seconds have seen it by then.
                    await asyncio.sleep(2 * SETTLE_S)
                    waited = await one_after_another(access, rooms)
    return {"scenario": scenario, "system": system.name, **figures(waited)}


def chosen_systems(names: Sequence[str], scenario: Scenario) -> list[System]:
    """Return the systems of a scenario, those of the command line only if it names some."""
    every = [*systems(), openrtc(install_openrtc())]
    if unknown := set(names) - {each.name for each in every}:
        raise ConfigError(f"unknown systems: {', '.join(sorted(unknown))}")
    lifted = {"STOCK_LOAD_LIMIT": "none" if scenario == "burst" else "default"}
    return [
        replace(each, environment={**each.environment, **lifted})
        for each in every
        if not names or each.name in names
    ]


def ratios(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return voxray's median p95 over each peer's, by scenario."""
    medians: dict[str, dict[str, float]] = {}
    for scenario in sorted({run["scenario"] for run in runs}):
        for system in sorted({run["system"] for run in runs}):
            values = [
                run["p95_s"]
                for run in runs
                if (run["scenario"], run["system"]) == (scenario, system) and run["p95_s"]
            ]
            if values:
                medians.setdefault(scenario, {})[system] = round(statistics.median(values), 3)
    return {
        "p95_s": medians,
        "voxray to": {
            scenario: {
                system: round(each["voxray"] / value, 3)
                for system, value in each.items()
                if system != "voxray"
            }
            for scenario, each in medians.items()
            if "voxray" in each
        },
    }


async def main() -> None:
    """Run the scenarios against all systems, round by round, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--scenario", choices=("burst", "overload", "both"), default="both")
    parser.add_argument("--only", nargs="*", default=[], help="names of systems to run")
    parser.add_argument("--output", type=Path, default=RESULTS / "burst.json")
    arguments = parser.parse_args()
    # The callers share the cores with what is measured: they had better be light.
    quiet_native_runtime(os.environ)
    binary = await asyncio.to_thread(find_or_install, build_home(os.environ))
    scenarios: list[Scenario] = (
        ["burst", "overload"] if arguments.scenario == "both" else [arguments.scenario]
    )
    runs: list[dict[str, Any]] = []
    for number in range(arguments.repeat):
        for scenario in scenarios:
            for system in await asyncio.to_thread(chosen_systems, arguments.only, scenario):
                run = await measure(system, binary, scenario, arguments.rooms)
                runs.append({"round": number, **run})
                print(json.dumps(runs[-1]), flush=True)
    report = {"machine": machine(), **ratios(runs), "runs": runs}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(ratios(runs), indent=2))


if __name__ == "__main__":
    asyncio.run(main())
