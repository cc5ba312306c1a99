"""Replicas die and hang while eight callers speak: every transcript comes whole, once, in order.

The 200 utterances of the benchmark (`benchmarks/replica_loss.py`) are fewer here; faults come at
moments drawn by a seed, counted in transcripts, so that no machine's speed decides where they fall.
"""

import asyncio
import random
import signal

import pytest

from tests.fakes.event_log import EventLog
from tests.fakes.replica_fleet import Caller, replica_fleet, sentences
from voxray.base.ids import HostId
from voxray.base.timing import SystemClock
from voxray.observability.events import FramesDropped, StreamReopened
from voxray.pipelines.remote_client import RemoteInferenceClient

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

STREAMS = 8
EACH = 8
# A stream may lose its replica five times within half a minute before it is given up.
FAULTS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL)


class Progress:
    """Counts transcripts, and wakes who waits for so many."""

    def __init__(self) -> None:
        self.finals = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task] = set()

    def __call__(self) -> None:
        self.finals += 1
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def reach(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.finals >= count)


async def say_all(client, said, progress) -> list[Caller]:
    callers = [Caller(client, each, progress) for each in said]
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run())
    return callers


async def harm(fleet, progress, rng) -> None:
    """Kill or freeze a replica at random moments, and start another one in its place."""
    moments = sorted(rng.sample(range(2, STREAMS * EACH - 2 * STREAMS), len(FAULTS)))
    for moment, fault in zip(moments, FAULTS, strict=True):
        await progress.reach(moment)
        for _ in range(rng.randrange(200)):
            await asyncio.sleep(0)
        number = rng.choice(fleet.well())
        fleet.signal(number, fault)
        await fleet.replace(number)


@pytest.mark.parametrize("seed", [5])
async def test_transcripts_are_those_of_an_undisturbed_run(seed):
    rng = random.Random(seed)
    words = sentences(STREAMS * EACH, seed)
    said = [words[number::STREAMS] for number in range(STREAMS)]
    log = EventLog()
    client = RemoteInferenceClient(
        host_id=HostId("cafe0001"), node="node", coalesce_ms=10.0, sink=log, clock=SystemClock()
    )
    try:
        async with replica_fleet(client, 3) as fleet:
            undisturbed = await say_all(client, said, Progress())
            assert not log.of(StreamReopened)
            progress = Progress()
            harming = asyncio.create_task(harm(fleet, progress, rng))
            disturbed = await say_all(client, said, progress)
            await harming
    finally:
        await client.aclose()

    assert [caller.heard for caller in undisturbed] == said
    assert [caller.heard for caller in disturbed] == [caller.heard for caller in undisturbed]
    for caller in disturbed:
        ends = [0.0, *(end for _, end in caller.spans)]
        assert all(start >= end for (start, _), end in zip(caller.spans, ends, strict=False))
    assert log.of(StreamReopened), "no fault hit a stream: the test shows nothing"
    assert not log.of(FramesDropped)
