"""Shared inference, measured: what a stream costs, what the service adds, how long a call waits.

Each figure has its peer beside it, on the same machine and in the same run:

* `vad`: streams of voice activity that one core carries with a p99 below 10 ms: the VAD that
  livekit-agents bundles, `voxray.VAD` with the engines in the same process, and the service, whose
  replica has a core of its own (the cost of the host that talks to it stands beside it). The
  service coalesces for 2 ms here, with a latency budget of 2 ms; elsewhere 10 and 8, as by default.
* `pocketsphinx`: utterances a second with 1, 8 and 32 calls, through the service and in process.
* `uplink`: CPU that the host spends on sending a call's audio up and taking its results, by the
  length of its frames.
* `added`: latency of the service against the same engine called in process.
* `transcript`: end of speech to final transcript with 1, 4 and 8 calls that talk at once.

The two sides of the service run on different cores; anything else that runs spoils the figures.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import inference_loads as loads
from benchmarks.pinning import pin
from benchmarks.systems import RESULTS, machine
from voxray.loadtest.report import percentile

LIMIT_MS = 10.0
LEVELS = (4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
PARTS = ("vad", "pocketsphinx", "uplink", "added", "transcript")


def in_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return percentiles in milliseconds."""
    return {
        f"p{percent}_ms": round(1000 * percentile(seconds, percent), 2) for percent in (50, 95, 99)
    }


async def vad_level(system: str, streams: int, seconds: float) -> dict[str, Any]:
    """Run one system with so many streams; all of it on one core, but for the service's replica."""
    pin(0)
    if system == "service":
        # The default settings hold frames and windows back for longer than the limit.
        async with loads.service("silero", coalesce_ms=2.0, budget_ms=2.0) as served:
            ears: list[loads.Ears] = [
                loads.StreamEars(await served.client.open("vad", {})) for _ in range(streams)
            ]
            return await _vad_run(ears, seconds, served.replica)
    make = loads.plugin_ears(system)
    return await _vad_run([make() for _ in range(streams)], seconds, None)


async def _vad_run(ears: list[loads.Ears], seconds: float, replica: Any | None) -> dict[str, Any]:
    before = loads.cpu_s(), loads.cpu_s(replica), time.perf_counter()
    latencies = await loads.listen(ears, seconds=seconds)
    took_s = time.perf_counter() - before[2]
    here = (loads.cpu_s() - before[0]) / took_s
    for ear in ears:
        await ear.aclose()
    expected = len(ears) * (seconds - 1.0) / loads.WINDOW_S
    found = {
        "streams": len(ears),
        **in_ms(latencies or [float("inf")]),
        "answered": round(len(latencies) / expected, 3),
        "cores_here": round(here, 3),
    }
    if replica is not None:
        found["cores_replica"] = round((loads.cpu_s(replica) - before[1]) / took_s, 3)
    return found


def climb(system: str, levels: Sequence[int], seconds: float) -> dict[str, Any]:
    """Add streams until the latency is over the limit; a fresh process for each level."""
    runs: list[dict[str, Any]] = []
    for streams in levels:
        command = [sys.executable, "-m", "benchmarks.inference", "--level", system, str(streams)]
        done = subprocess.run(
            [*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps({"system": system, **runs[-1]}), flush=True)
        if not _good(runs[-1]):
            break
    best = max((run["streams"] for run in runs if _good(run)), default=0)
    return {"system": system, "streams_per_core": best, "runs": runs}


def _good(run: dict[str, Any]) -> bool:
    return bool(run["p99_ms"] < LIMIT_MS and run["answered"] > 0.97)


async def pocketsphinx(calls: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Utterances a second, through the service and in process."""
    found = []
    for count in calls:
        async with loads.service("pocketsphinx") as served:
            run = await loads.dictate(served.client, count, seconds=seconds)
            found.append({"system": "service", **run})
        async with loads.embedded() as client:
            run = await loads.dictate(client, count, seconds=seconds)
            found.append({"system": "in process", **run})
    return found


async def uplink(streams: int, seconds: float) -> list[dict[str, Any]]:
    """CPU of the host's side by frame length; what the talking itself costs is taken off."""
    found = []
    for frame_ms in (10, 20, 50):
        silent_s, _ = await _uplink_run(None, streams, seconds, frame_ms)
        async with loads.service("silero") as served:
            spent_s, replica_s = await _uplink_run(served, streams, seconds, frame_ms)
        call_seconds = streams * seconds
        found.append(
            {
                "frame_ms": frame_ms,
                "streams": streams,
                "host_ms_per_call_second": round(1000 * (spent_s - silent_s) / call_seconds, 3),
                "replica_ms_per_call_second": round(1000 * replica_s / call_seconds, 3),
            }
        )
    return found


class _NoEars:
    def push(self, frame: loads.Samples) -> None:
        """Throw it away."""

    async def heard(self) -> float:
        """Wait for ever."""
        await asyncio.Event().wait()
        return 0.0

    async def aclose(self) -> None:
        """Do nothing."""


async def _uplink_run(
    served: loads.Service | None, streams: int, seconds: float, frame_ms: int
) -> tuple[float, float]:
    ears: list[loads.Ears] = [
        _NoEars() if served is None else loads.StreamEars(await served.client.open("vad", {}))
        for _ in range(streams)
    ]
    replica = None if served is None else served.replica
    before = loads.cpu_s(), loads.cpu_s(replica)
    await loads.listen(ears, seconds=seconds, frame_s=frame_ms / 1000)
    spent = loads.cpu_s() - before[0], loads.cpu_s(replica) - before[1]
    for ear in ears:
        await ear.aclose()
    return spent


async def added(streams: int, seconds: float) -> dict[str, Any]:
    """Latency of VAD through the service, and of the same engine in process."""
    async with loads.service("silero") as served:
        ears: list[loads.Ears] = [
            loads.StreamEars(await served.client.open("vad", {})) for _ in range(streams)
        ]
        remote = await loads.listen(ears, seconds=seconds)
    async with loads.embedded() as client:
        ears = [loads.StreamEars(await client.open("vad", {})) for _ in range(streams)]
        local = await loads.listen(ears, seconds=seconds)
        for ear in ears:
            await ear.aclose()
    added_ms = 1000 * (percentile(remote, 95) - percentile(local, 95))
    return {
        "streams": streams,
        "service": in_ms(remote),
        "in_process": in_ms(local),
        "added_p95_ms": round(added_ms, 2),
    }


async def transcript(calls: Sequence[int], turns: int) -> list[dict[str, Any]]:
    """End of speech to final transcript, through the service and in process."""
    found = []
    for count in calls:
        async with loads.service("pocketsphinx") as served:
            delays = await loads.converse(served.client, count, turns=turns)
            found.append({"system": "service", "calls": count, **in_ms(delays)})
        async with loads.embedded() as client:
            delays = await loads.converse(client, count, turns=turns)
            found.append({"system": "in process", "calls": count, **in_ms(delays)})
    return found


def measure(part: str, seconds: float, small: bool) -> Any:
    """Run one part."""
    match part:
        case "vad":
            levels = LEVELS[:3] if small else LEVELS
            return [climb(each, levels, seconds) for each in ("stock", "embedded", "service")]
        case "pocketsphinx":
            return asyncio.run(pocketsphinx((1, 4) if small else (1, 8, 32), seconds))
        case "uplink":
            return asyncio.run(uplink(4 if small else 32, seconds))
        case "added":
            return asyncio.run(added(2 if small else 8, seconds))
        case _:
            calls = (1, 2) if small else (1, 4, 8)
            return asyncio.run(transcript(calls, 2 if small else 10))


def main() -> None:
    """Measure what was asked for and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--small", action="store_true", help="few streams: to try it")
    parser.add_argument("--level", nargs=2, metavar=("SYSTEM", "STREAMS"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULTS / "inference.json")
    arguments = parser.parse_args()
    if arguments.level is not None:
        system, streams = arguments.level
        print(json.dumps(asyncio.run(vad_level(system, int(streams), arguments.seconds))))
        # Streams that are still being served must not keep the next level waiting.
        sys.stdout.flush()
        os._exit(0)
    report: dict[str, Any] = {"machine": machine(), "seconds": arguments.seconds}
    for part in arguments.only:
        report[part] = measure(part, arguments.seconds, arguments.small)
        print(json.dumps({part: report[part]}), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
