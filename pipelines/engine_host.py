"""The engines of one process: loaded once, shared by the streams of all calls.

A replica's gRPC server and the embedded client of a program outside voxray are both thin layers
over this. Everything here belongs to one event loop: calls are made on it and callbacks come on
it; only the engines' own work runs elsewhere (`executor.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from voxray.base.errors import EngineError, StreamEndedError
from voxray.base.timing import Clock
from voxray.observability.events import EventSink
from voxray.pipelines.engines.base import EngineInfo, EngineInput, EngineOutput

OutputCallback: TypeAlias = Callable[[EngineOutput], None]
EndCallback: TypeAlias = Callable[[StreamEndedError | EngineError], None]
ProgressCallback: TypeAlias = Callable[[int], None]


class EngineStream:
    """One engine listening or speaking for one call. Never blocks.

    `accepted` inputs were taken by `push`, `consumed` of them were worked through by the engine
    and all their results were handed out; `pending` is the difference.
    """

    @property
    def info(self) -> EngineInfo:
        """The engine that serves the stream."""
        raise NotImplementedError

    @property
    def accepted(self) -> int:
        """Inputs accepted by `push` and `push_pcm` since the stream opened."""
        raise NotImplementedError

    @property
    def consumed(self) -> int:
        """Inputs that were worked through since the stream opened; never goes back."""
        raise NotImplementedError

    @property
    def pending(self) -> int:
        """Inputs accepted and not yet worked through."""
        raise NotImplementedError

    def push(self, item: EngineInput) -> bool:
        """Queue one input; return False when the stream's bound is full and it was not taken.

        `FlushInput` and `EndOfInput` are always taken. What follows `EndOfInput` is an error of
        the caller.

        Raises:
            StreamEndedError: the stream was closed, finished, or its input has ended.
            EngineError: the stream has failed.
        """
        raise NotImplementedError

    def push_pcm(self, pcm: bytes, rate: int) -> bool:
        """Queue 16-bit little-endian mono PCM at `rate` Hz, resampled to the engine's rate.

        Counts as one input. Returns False when the bound is full: nothing was taken then.

        Raises:
            ProtocolError: an odd number of bytes, or a rate outside 8 to 192 kHz.
            StreamEndedError: the stream was closed, finished, or its input has ended.
            EngineError: the stream has failed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Abandon the stream: what is queued is dropped and no callback comes any more.

        Idempotent.
        """
        raise NotImplementedError


class EngineHost:
    """Loads engines, opens streams to them, and counts."""

    def __init__(
        self,
        engine_names: Sequence[str],
        *,
        max_streams: int,
        latency_budget_ms: float,
        max_batch: int,
        sink: EventSink,
        clock: Clock,
    ) -> None:
        """Prepare; nothing is loaded before `start`."""
        raise NotImplementedError

    @property
    def streams(self) -> int:
        """Streams that are open now, over all engines."""
        raise NotImplementedError

    @property
    def max_streams(self) -> int:
        """Streams that may be open at once."""
        raise NotImplementedError

    @property
    def queue_s(self) -> float:
        """Smoothed seconds that work waited before its batch ran, of the slowest engine."""
        raise NotImplementedError

    def infos(self) -> tuple[EngineInfo, ...]:
        """Return what is hosted, in the order it was asked for."""
        raise NotImplementedError

    async def start(self) -> None:
        """Load all engines, off the loop and side by side.

        Raises:
            EngineConfigError: an engine is unknown, or its model can't be loaded; nothing of
                the others is left running.
        """
        raise NotImplementedError

    def open(
        self,
        engine: str,
        options: Mapping[str, Any],
        *,
        on_output: OutputCallback,
        on_end: EndCallback,
        on_progress: ProgressCallback | None = None,
    ) -> EngineStream:
        """Open a stream to an engine, by its name or its kind (`vad`, `stt`, `tts`).

        All callbacks come on the event loop, never from within `open`, `push` or `close`.

        Args:
            engine: the engine's name; a kind takes the first engine of that kind.
            options: the engine's own options.
            on_output: called for each result, in order.
            on_end: called once, last: `StreamFinishedError` after `EndOfInput` when all was
                said, `EngineError` when the engine failed on this stream,
                `StreamClosedError` when the host closes. Not called after `close`.
            on_progress: called with the new `consumed` after results were handed out.

        Raises:
            EngineConfigError: no such engine, or it can't do what the options ask.
            CapacityError: `max_streams` are open already.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """End all streams and free the engines. Idempotent and safe before `start`."""
        raise NotImplementedError
