"""What the executor knows about one stream: its session, its counts, and who listens to it."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from voxray.base.errors import EngineError, StreamEndedError
from voxray.pipelines.engines.base import EngineOutput, EngineSession

T = TypeVar("T")

logger = logging.getLogger(__name__)

OutputCallback: TypeAlias = Callable[[EngineOutput], None]
EndCallback: TypeAlias = Callable[[StreamEndedError | EngineError], None]
ProgressCallback: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class LaneCallbacks:
    """Who hears what a lane has to say; all are called on the loop.

    Attributes:
        on_output: takes each result, in order.
        on_end: takes the end, once and last.
        on_progress: takes the number of inputs consumed, after their results.
    """

    on_output: OutputCallback
    on_end: EndCallback
    on_progress: ProgressCallback | None = None


@dataclass(frozen=True, kw_only=True)
class StreamOrigin:
    """Where a stream comes from.

    Attributes:
        name: what logs and errors call it, such as `cafe0001/12`; empty for its key.
        traceparent: W3C trace context of its call, or empty.
    """

    name: str = ""
    traceparent: str = ""


NOWHERE = StreamOrigin()
"""A stream of this very process."""


@dataclass(slots=True, eq=False)
class Lane:
    """One stream inside the executor, which alone writes to it.

    Attributes:
        key: its name in the batcher.
        session: its state inside the engine.
        callbacks: who listens.
        origin: where it comes from.
        accepted: inputs that were queued since it opened.
        consumed: inputs that were worked through.
        flushed: nothing came since the last flush.
        input_ended: the last input was queued.
        in_flight: a batch with its work is at the engine.
        deferred: what its work waits for, once the batch is done.
        end: why it ended, if it did.
    """

    key: int
    session: EngineSession
    callbacks: LaneCallbacks
    origin: StreamOrigin = NOWHERE
    accepted: int = 0
    consumed: int = 0
    flushed: bool = True
    input_ended: bool = False
    in_flight: bool = False
    deferred: Future[None] | None = None
    end: StreamEndedError | EngineError | None = field(default=None)

    @property
    def name(self) -> str:
        """What logs and errors call it."""
        return self.origin.name or str(self.key)

    def ended(self) -> bool:
        """Return whether nobody waits for results any more; safe from any thread."""
        return self.end is not None


def tell(callback: Callable[[T], None], value: T) -> None:
    """Call a listener; its fault must not reach the other streams of the batch."""
    try:
        callback(value)
    except Exception:
        logger.exception("a stream's listener failed")
