"""What an engine's thread sends to the loop of its executor."""

from dataclasses import dataclass
from typing import TypeAlias

from voxray.pipelines.batching import Batch
from voxray.pipelines.engines.base import EngineInput, EngineOutput, WorkResult
from voxray.pipelines.lanes import Lane

Work: TypeAlias = tuple[tuple[Lane, tuple[EngineInput, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The engine's thread is done with a batch.

    Attributes:
        batch: as it was taken.
        work: the lanes of the batch and their inputs.
        results: what became of each; nothing of those that were abandoned before it ran.
        answered: the lanes that got what a call waits for (`is_answer`).
        queue_s: seconds that the oldest input waited.
        service_s: seconds that the engine took.
    """

    batch: Batch[EngineInput]
    work: Work
    results: dict[Lane, WorkResult]
    answered: frozenset[Lane]
    queue_s: float
    service_s: float


@dataclass(frozen=True, slots=True)
class Late:
    """Work that its batch had left to a future is done, or went wrong."""

    lane: Lane
    inputs: tuple[EngineInput, ...]
    error: BaseException | None


Parcel: TypeAlias = tuple[Lane, EngineOutput] | Finished | Late
