"""One batch from its hand-over to the engine's thread until it is done there."""

from collections.abc import Callable
from functools import partial

from voxray.base.timing import Clock
from voxray.pipelines.batch_runner import run_isolated
from voxray.pipelines.batch_spans import is_answer
from voxray.pipelines.batching import Batch
from voxray.pipelines.engines.base import (
    AudioInput,
    Engine,
    EngineInput,
    EngineOutput,
    TextInput,
    WorkItem,
)
from voxray.pipelines.lanes import Lane
from voxray.pipelines.parcels import Finished, Work

_CHARACTERS_PER_S = 15.0
# Of text that is read aloud.


def weight_of(item: EngineInput, sample_rate: int) -> float:
    """Return about how many seconds of sound an input is, for the batcher's turns."""
    match item:
        case AudioInput(samples=samples):
            return len(samples) / sample_rate
        case TextInput(text=text):
            return len(text) / _CHARACTERS_PER_S
    return 0.0


def run_batch(
    engine: Engine,
    batch: Batch[EngineInput],
    work: Work,
    *,
    give: Callable[[Lane, EngineOutput], None],
    clock: Clock,
) -> Finished:
    """Run a batch for its lanes; results go to `give` as they are made. Never raises."""
    started_s = clock.monotonic()
    answered: set[Lane] = set()

    def emit(lane: Lane, output: EngineOutput) -> None:
        if is_answer(output):
            answered.add(lane)
        give(lane, output)

    # What was abandoned since it was queued does not even reach the engine.
    alive = [(lane, inputs) for lane, inputs in work if lane.end is None]
    items = [
        WorkItem(lane.session, inputs, partial(emit, lane), lane.ended) for lane, inputs in alive
    ]
    results = run_isolated(engine, items) if items else []
    return Finished(
        batch=batch,
        work=work,
        results={lane: result for (lane, _), result in zip(alive, results, strict=True)},
        answered=frozenset(answered),
        queue_s=started_s - batch.oldest_s,
        service_s=clock.monotonic() - started_s,
    )
