"""What an engine's thread sends to the loop of its executor."""

from dataclasses import dataclass
from typing import TypeAlias

from voxray.pipelines.engines.base import EngineInput, EngineOutput, WorkResult
from voxray.pipelines.lanes import Lane


@dataclass(frozen=True, slots=True)
class Finished:
    """The engine's thread is done with a batch.

    Attributes:
        work: the lanes of the batch and their inputs.
        results: what became of each.
        queue_s: seconds that the oldest input waited.
        service_s: seconds that the engine took.
    """

    work: tuple[tuple[Lane, tuple[EngineInput, ...]], ...]
    results: list[WorkResult]
    queue_s: float
    service_s: float


@dataclass(frozen=True, slots=True)
class Late:
    """Work that its batch had left to a future is done, or went wrong."""

    lane: Lane
    inputs: tuple[EngineInput, ...]
    error: BaseException | None


Parcel: TypeAlias = tuple[Lane, EngineOutput] | Finished | Late
