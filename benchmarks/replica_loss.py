"""What callers notice when replicas die or hang: whole transcripts, and gaps.

    make bench-replica-loss                 # or: python -m benchmarks.replica_loss --help

Eight callers speak in real time to pocketsphinx replicas in processes of their own. First nothing
happens; then a replica is killed (or frozen) at random moments and another one started in its
place, as the dispatcher does. The gap of a stream is the time from the signal to its being open on
another replica. Transcripts of both runs are compared.
"""

import argparse
import asyncio
import json
import random
import signal
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.systems import RESULTS, machine
from tests.fakes.replica_fleet import Caller, ReplicaFleet, replica_fleet, sentences
from voxray.base.ids import HostId
from voxray.base.timing import SystemClock
from voxray.loadtest.report import percentile
from voxray.observability.events import Event, StreamReopened
from voxray.pipelines.remote_client import RemoteInferenceClient

FRAME_S = 0.02
FAULTS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}


class Reopenings:
    """When streams were open again, of all events."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, StreamReopened):
            self.at.append(time.monotonic())


async def speak(client: RemoteInferenceClient, said: list[list[str]]) -> list[Caller]:
    """Have all callers say their sentences."""
    callers = [Caller(client, each, lambda: None, pause_s=FRAME_S) for each in said]
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run())
    return callers


async def harm(
    fleet: ReplicaFleet, fault: str, rng: random.Random, every_s: float, moments: list[float]
) -> None:
    """Harm a replica about every so often, until it is cancelled."""
    while True:
        await asyncio.sleep(every_s * rng.uniform(0.5, 1.5))
        number = rng.choice(fleet.well())
        moments.append(time.monotonic())
        fleet.signal(number, FAULTS[fault])
        await fleet.replace(number)


def gaps(moments: list[float], reopened: list[float]) -> list[float]:
    """Return each reopening's seconds since the fault before it."""
    return [at - max(moment for moment in moments if moment <= at) for at in reopened]


def summary(values: list[float]) -> dict[str, float]:
    """Return percentiles in milliseconds."""
    if not values:
        return {"count": 0}
    return {
        "count": len(values),
        "p50_ms": round(1000 * statistics.median(values), 1),
        "p95_ms": round(1000 * percentile(values, 95), 1),
        "max_ms": round(1000 * max(values), 1),
    }


async def measure(arguments: argparse.Namespace, fault: str) -> dict[str, Any]:
    """Run once undisturbed and once with faults."""
    rng = random.Random(arguments.seed)
    words = sentences(arguments.utterances, arguments.seed)
    said = [words[number :: arguments.streams] for number in range(arguments.streams)]
    sink = Reopenings()
    client = RemoteInferenceClient(
        host_id=HostId("be9c0001"), node="node", coalesce_ms=10.0, sink=sink, clock=SystemClock()
    )
    try:
        async with replica_fleet(client, arguments.replicas) as fleet:
            undisturbed = await speak(client, said)
            sink.at.clear()
            moments: list[float] = []
            harming = asyncio.create_task(harm(fleet, fault, rng, arguments.every_s, moments))
            disturbed = await speak(client, said)
            harming.cancel()
            await asyncio.wait([harming])
    finally:
        await client.aclose()
    return {
        "fault": fault,
        "faults": len(moments),
        "utterances": sum(len(caller.heard) for caller in disturbed),
        "as_undisturbed": [c.heard for c in disturbed] == [c.heard for c in undisturbed],
        "as_said": [c.heard for c in disturbed] == said,
        "gap": summary(gaps(moments, sink.at)),
        "end_to_final": summary([s for c in disturbed for s in c.delays_s]),
        "end_to_final_undisturbed": summary([s for c in undisturbed for s in c.delays_s]),
    }


async def main() -> None:
    """Measure both kinds of loss and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--every-s", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--output", type=Path, default=RESULTS / "replica_loss.json")
    arguments = parser.parse_args()
    runs = []
    for fault in arguments.faults:
        runs.append(await measure(arguments, fault))
        print(json.dumps(runs[-1]), flush=True)
    report = {
        "machine": machine(),
        "streams": arguments.streams,
        "replicas": arguments.replicas,
        "runs": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
