"""Memory of calls with local speech to text: ours beside the stock worker, in one run.

    make bench-stt-memory                   # or: python -m benchmarks.stt_memory --help

The same program (examples/timetable: pocketsphinx with a grammar, Silero, espeak-ng), callers and
questions. Under the stock worker every job process loads the engines for itself; under voxray one
replica has them for all calls. Counted is the whole tree of each system at its peak, Ray and a
spare host included, and what further calls add to the first one's.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.first_light import load_plan, measure, measure_idle
from benchmarks.systems import RESULTS, SETTLE_S, machine, running, systems
from voxray.cli.home import build_home
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install
from voxray.loadtest.load import run_load

_SYSTEMS = ("stock-process", "voxray")


async def measure_all(binary: Path, rooms: list[int], turns: int) -> list[dict[str, Any]]:
    """Run all loads against both systems, each with a LiveKit server of its own."""
    runs = []
    for system in (each for each in systems() if each.name in _SYSTEMS):
        async with LiveKitServer(binary) as server:
            access = LiveKitAccess(
                url=server.url, api_key=server.api_key, api_secret=server.api_secret
            )
            async with running(system, access) as pid:
                # The first call makes every system load what it loads once.
                await run_load(load_plan(access, 1, 1, seed=0))
                await asyncio.sleep(SETTLE_S)
                idle = await measure_idle(pid)
                for number in rooms:
                    run = await measure(pid, idle, load_plan(access, number, turns, seed=number))
                    runs.append({"system": system.name, **run})
                    print(json.dumps(runs[-1]), flush=True)
                    await asyncio.sleep(SETTLE_S)
    return runs


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each system's peaks, what a call adds, and ours as a share of the stock worker's."""
    table = {
        name: {
            str(run["rooms"]): {key: run[key] for key in ("peak_mib", "mib_per_room", "idle_mib")}
            for run in runs
            if run["system"] == name
        }
        for name in _SYSTEMS
    }
    stock, ours = (table[name] for name in _SYSTEMS)
    share = {
        rooms: {key: round(ours[rooms][key] / figures[key], 3) for key in figures if figures[key]}
        for rooms, figures in stock.items()
        if rooms in ours
    }
    return {**table, "voxray / stock-process": share}


async def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "stt_memory.json")
    arguments = parser.parse_args()
    binary = await asyncio.to_thread(find_or_install, build_home(os.environ))
    rounds = []
    for _ in range(arguments.repeat):
        runs = await measure_all(binary, arguments.rooms, arguments.turns)
        rounds.append({"summary": summary(runs), "runs": runs})
    report = {"machine": machine(), "rounds": rounds}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
