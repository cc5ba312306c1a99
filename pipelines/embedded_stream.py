"""One stream between two event loops: a call's own, and the one that the engines run on."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from voxray.base.channel import Channel
from voxray.base.errors import (
    EngineError,
    PeerFailedError,
    ProtocolError,
    StreamClosedError,
    StreamEndedError,
    StreamFinishedError,
)
from voxray.observability.events import EventSink, FramesDropped
from voxray.pipelines.audio import BYTES_PER_SAMPLE, check_rate, pcm_to_samples
from voxray.pipelines.engine_host import EngineStream
from voxray.pipelines.engines.base import (
    EndOfInput,
    EngineInfo,
    EngineInput,
    EngineKind,
    EngineOutput,
    FlushInput,
    TextInput,
)

_OUTPUT_LIMIT = 16_384
# Results that nobody has fetched: over eight minutes of VAD windows, more of anything else.
_ENGINE_QUEUE = 256
# Inputs that an engine stream is given ahead; it would lose what its queue (512) can't take.
_BACKLOG_S = 120.0
# Audio that is held back here beyond it. A whole recording may come in one go.

_Pcm: TypeAlias = tuple[bytes, int]
_End: TypeAlias = StreamEndedError | EngineError


class Inlet:
    """Input that a full engine stream can't take yet, in order. For the engines' loop only."""

    def __init__(
        self, engine: EngineStream, sink: EventSink, *, backlog_s: float = _BACKLOG_S
    ) -> None:
        self._engine = engine
        self._sink = sink
        self._backlog_s = backlog_s
        self._waiting: deque[EngineInput | _Pcm] = deque()
        self._waiting_s = 0.0

    def push(self, item: EngineInput | _Pcm) -> None:
        """Hand the item on, or keep it; drop the oldest audio beyond the bound."""
        self._waiting.append(item)
        self._waiting_s += _seconds(item)
        self.drain()
        if self._waiting_s > self._backlog_s:
            self._drop()

    def drain(self) -> None:
        """Hand on what there is room for now."""
        try:
            while self._waiting and self._engine.pending < _ENGINE_QUEUE:
                item = self._waiting.popleft()
                self._waiting_s -= _seconds(item)
                self._hand_on(item)
        except (StreamEndedError, EngineError):
            # The stream tells its end by a callback: input that crosses it is nobody's.
            self._waiting.clear()
            self._waiting_s = 0.0

    def _hand_on(self, item: EngineInput | _Pcm) -> None:
        if isinstance(item, tuple):
            self._engine.push_pcm(*item)
        else:
            self._engine.push(item)

    def _drop(self) -> None:
        dropped = 0
        kept: deque[EngineInput | _Pcm] = deque()
        for item in self._waiting:
            if self._waiting_s > self._backlog_s and isinstance(item, tuple):
                self._waiting_s -= _seconds(item)
                dropped += 1
            else:
                kept.append(item)
        self._waiting = kept
        self._sink.emit(FramesDropped(where="source", frames=dropped))


class EmbeddedStream:
    """An `InferenceStream` for the loop that it was made on."""

    def __init__(
        self,
        engine_loop: asyncio.AbstractEventLoop,
        on_close: Callable[[], None],
        *,
        recording_s: float = 0.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine_loop = engine_loop
        self._on_close = on_close
        self._backlog_s = max(_BACKLOG_S, recording_s + 1.0)
        self._results: Channel[EngineOutput] = Channel(_OUTPUT_LIMIT)
        self._error: EngineError | None = None
        self._input_ended = False
        self._closed = False
        # These two belong to the engines' loop.
        self._engine: EngineStream | None = None
        self._inlet: Inlet | None = None

    @property
    def info(self) -> EngineInfo:
        """The engine that serves the stream."""
        assert self._engine is not None
        return self._engine.info

    def connect(self, engine: EngineStream, sink: EventSink) -> None:
        """Say which engine stream is behind this one. On the engines' loop."""
        self._engine = engine
        self._inlet = Inlet(engine, sink, backlog_s=self._backlog_s)

    def push_audio(self, pcm: bytes, rate: int) -> None:
        """Hand in 16-bit little-endian mono PCM at `rate` Hz.

        Raises:
            ProtocolError: an odd number of bytes, a rate outside 8 to 192 kHz, or audio for an
                engine that speaks.
            StreamEndedError: the stream has ended.
        """
        # Checked here, where the caller can be told.
        if self.info.kind is EngineKind.TTS:
            raise ProtocolError(f"engine {self.info.name} takes text and was given audio")
        check_rate(rate)
        pcm_to_samples(pcm)
        self._push((pcm, rate))

    def push_text(self, text: str) -> None:
        """Hand in text to speak.

        Raises:
            ProtocolError: text for an engine that hears.
            StreamEndedError: the stream has ended.
        """
        if self.info.kind is not EngineKind.TTS:
            raise ProtocolError(f"engine {self.info.name} takes audio and was given text")
        self._push(TextInput(text))

    def flush(self, *, discard: bool = False) -> None:
        """End the current segment.

        Args:
            discard: forget the segment: nothing is said of it.

        Raises:
            StreamEndedError: the stream has ended.
        """
        self._push(FlushInput(discard))

    def end_input(self) -> None:
        """Say that no more input comes. Idempotent."""
        if not self._input_ended and not self._results.ended:
            self._push(EndOfInput())
            self._input_ended = True

    async def receive(self) -> EngineOutput:
        """Return the next result.

        Raises:
            StreamFinishedError: everything was said.
            StreamClosedError: we closed the stream.
            PeerFailedError: results were not fetched in time, and the stream was given up.
            EngineError: the engine failed on this stream.
        """
        try:
            return await self._results.receive()
        except StreamFinishedError:
            if self._error is not None:
                raise self._error from None
            raise

    async def aclose(self) -> None:
        """Abandon the stream. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._results.close()
        self._on_close()
        # A closed loop has ended all of its streams.
        with contextlib.suppress(RuntimeError):
            self._engine_loop.call_soon_threadsafe(self.disconnect)

    def disconnect(self) -> None:
        """Close the engine's stream. On the engines' loop."""
        if self._engine is not None:
            self._engine.close()

    def deliver(self, output: EngineOutput) -> None:
        """Take a result, on the engines' loop."""
        self._on_own_loop(self._take, output)

    def end(self, reason: _End) -> None:
        """Take the end of the engine's stream, on the engines' loop."""
        self._on_own_loop(self._finish, reason)

    def progress(self, _consumed: int) -> None:
        """Learn that the engine has room again, on the engines' loop."""
        if self._inlet is not None:
            self._inlet.drain()

    def _push(self, item: EngineInput | _Pcm) -> None:
        if self._input_ended:
            raise StreamFinishedError("no input is taken after its end was said")
        if self._results.ended:
            raise StreamClosedError("no input is taken: the stream has ended")
        try:
            self._engine_loop.call_soon_threadsafe(self._feed, item)
        except RuntimeError as error:
            raise StreamClosedError("the engines of this process were closed") from error

    def _feed(self, item: EngineInput | _Pcm) -> None:
        assert self._inlet is not None
        self._inlet.push(item)

    def _on_own_loop(self, callback: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:
            # Its loop was closed without closing the stream: nobody listens any more.
            self.disconnect()

    def _take(self, output: EngineOutput) -> None:
        if self._results.ended:
            return
        if not self._results.try_send(output):
            self._results.fail(
                PeerFailedError(f"{_OUTPUT_LIMIT} results were not fetched: the stream is given up")
            )
            self._engine_loop.call_soon_threadsafe(self.disconnect)

    def _finish(self, reason: _End) -> None:
        if isinstance(reason, EngineError):
            self._error = reason
            self._results.finish()
        else:
            self._results.fail(reason)


def _seconds(item: EngineInput | _Pcm) -> float:
    return len(item[0]) / BYTES_PER_SAMPLE / item[1] if isinstance(item, tuple) else 0.0
