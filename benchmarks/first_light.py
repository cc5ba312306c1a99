"""Memory, CPU and join time of a talking room: voxray beside the stock worker, in one run.

    make bench                              # or: python -m benchmarks.first_light --help

The same program (examples/timetable), the same callers and questions, the same livekit-server.
Each system runs in a process tree of its own; callers and the LiveKit server are not counted.
Systems take turns, round by round, so that a busy moment of the machine hits all of them. Memory
and CPU of a room are what it adds to the idle system; what the idle system costs is reported
beside them (`idle_mib`, `idle_cores`): voxray brings Ray and a spare host, which cost the same
however many rooms there are.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process_tree import Sampler, look
from benchmarks.systems import RESULTS, SETTLE_S, machine, running, systems
from voxray.cli.home import build_home
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.example import load_destinations
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install
from voxray.loadtest.load import LoadPlan, LoadResult, run_load
from voxray.loadtest.questions import timetable_questions
from voxray.loadtest.report import percentile

_IDLE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Idle:
    """What a system costs while it waits: reported, and taken off the cost of a room."""

    mib: float
    cores: float


async def measure_idle(pid: int) -> Idle:
    """Look at a system that has nothing to do."""
    before, began_s = look(pid), time.monotonic()
    await asyncio.sleep(_IDLE_S)
    after = look(pid)
    cores = (after.cpu_s - before.cpu_s) / (time.monotonic() - began_s)
    return Idle(mib=after.pss_mib, cores=cores)


async def measure(pid: int, idle: Idle, plan: LoadPlan) -> dict[str, Any]:
    """Run one load against a system and return what it cost."""
    before = look(pid)
    rooms = plan.rooms
    async with Sampler(pid) as sampler:
        result = await run_load(plan)
    cores = sampler.cpu_s / result.seconds
    return {
        "rooms": rooms,
        "idle_mib": round(idle.mib, 1),
        "idle_cores": round(idle.cores, 4),
        "before_mib": round(before.pss_mib, 1),
        "peak_mib": round(sampler.peak_mib, 1),
        "mib_per_room": round((sampler.peak_mib - before.pss_mib) / rooms, 2),
        "cpu_cores": round(cores, 4),
        "cpu_cores_per_room": round((cores - idle.cores) / rooms, 4),
        "seconds": round(result.seconds, 2),
        **_heard(result),
    }


def load_plan(access: LiveKitAccess, rooms: int, turns: int, seed: int) -> LoadPlan:
    questions = timetable_questions(load_destinations(), random.Random(seed))
    return LoadPlan(access=access, rooms=rooms, turns=turns, questions=questions)


def _heard(result: LoadResult) -> dict[str, Any]:
    joins = [call.joined.agent_audible_s for call in result.calls if call.joined is not None]
    latencies = [t.exchange.latency_s for t in result.turns if t.exchange.latency_s is not None]
    return {
        "joins_s": [round(value, 3) for value in joins],
        "join_p50_s": round(statistics.median(joins), 3) if joins else None,
        "turn_p50_s": round(statistics.median(latencies), 3) if latencies else None,
        "turn_p95_s": round(percentile(latencies, 95), 3) if latencies else None,
        "missing": result.missing,
        "correct": sum(turn.correct for turn in result.turns),
        "asked": sum(call.asked for call in result.calls),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians by system and load, and voxray's ratios to both stock workers."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    keys = (
        "mib_per_room",
        "cpu_cores_per_room",
        "join_p50_s",
        "turn_p50_s",
        "idle_mib",
        "idle_cores",
    )
    for run in runs:
        table.setdefault(run["system"], {}).setdefault(str(run["rooms"]), {})
    for system, loads in table.items():
        for rooms, figures in loads.items():
            same = [r for r in runs if r["system"] == system and str(r["rooms"]) == rooms]
            for key in keys:
                values = [r[key] for r in same if r[key] is not None]
                if values:
                    figures[key] = round(statistics.median(values), 4)
    ratios = {
        f"voxray / {stock}": {
            rooms: {
                key: round(figures[key] / table[stock][rooms][key], 3)
                for key in keys
                if table[stock][rooms].get(key) and key in figures
            }
            for rooms, figures in table.get("voxray", {}).items()
            if rooms in table.get(stock, {})
        }
        for stock in ("stock-process", "stock-thread")
        if stock in table
    }
    return {"medians": table, "ratios": ratios}


async def main() -> None:
    """Run all systems under all loads and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, nargs="+", default=[1, 3, 6])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="names of systems to run")
    parser.add_argument("--output", type=Path, default=RESULTS / "first_light.json")
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    binary = await asyncio.to_thread(find_or_install, build_home(os.environ))
    chosen = [each for each in systems() if not arguments.only or each.name in arguments.only]
    for round_number in range(arguments.repeat):
        for system in chosen:
            # A server for each, so that no worker of another system is near.
            async with LiveKitServer(binary) as server:
                access = LiveKitAccess(
                    url=server.url, api_key=server.api_key, api_secret=server.api_secret
                )
                async with running(system, access) as pid:
                    # The first call makes every system load what it loads once, and fill its pool.
                    await run_load(load_plan(access, 1, 1, round_number))
                    await asyncio.sleep(SETTLE_S)
                    idle = await measure_idle(pid)
                    for rooms in arguments.rooms:
                        seed = round_number * 100 + rooms
                        run = await measure(
                            pid, idle, load_plan(access, rooms, arguments.turns, seed)
                        )
                        await asyncio.sleep(SETTLE_S)
                        runs.append({"system": system.name, "round": round_number, **run})
                        print(json.dumps(runs[-1]), flush=True)
    report = {"machine": machine(), "turns": arguments.turns, **summary(runs), "runs": runs}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({"medians": report["medians"], "ratios": report["ratios"]}, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
