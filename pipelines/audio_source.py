"""Input of a call on this side: kept once, however many streams listen and wherever they are."""

from typing import Protocol

from voxray.base.errors import ProtocolError
from voxray.observability.events import EventSink, FramesDropped
from voxray.pipelines.audio import BYTES_PER_SAMPLE, check_rate
from voxray.pipelines.input_log import ALL_STREAMS, Frame, InputLog, LogItem
from voxray.pipelines.wire.messages import MAX_PCM_BYTES


class Listener(Protocol):
    """A stream that reads from a source."""

    @property
    def needed(self) -> int:
        """Number of the first log entry that the stream may still need."""
        ...

    @property
    def taken(self) -> int:
        """Number of the last log entry that the stream's replica has taken in."""
        ...

    def logged(self, size: int, *, urgent: bool) -> None:
        """The log has grown by `size` bytes."""
        ...


class AudioSource:
    """Audio that goes up once and feeds every stream that was opened on it."""

    def __init__(self, sink: EventSink, log: InputLog | None = None) -> None:
        self.log = InputLog() if log is None else log
        self._sink = sink
        self._listeners: list[Listener] = []

    def push_audio(self, pcm: bytes, rate: int) -> None:
        """Hand in 16-bit little-endian mono PCM at `rate` Hz; nothing is kept for nobody.

        What no replica has taken in and the log can't hold is dropped, oldest first, and counted
        (`FramesDropped`).

        Raises:
            ProtocolError: an odd number of bytes, or a rate outside 8 to 192 kHz.
        """
        check_rate(rate)
        if len(pcm) % BYTES_PER_SAMPLE:
            raise ProtocolError(f"got {len(pcm)} bytes of PCM: 16-bit samples take an even number")
        if not self._listeners:
            return
        for start in range(0, len(pcm), MAX_PCM_BYTES):
            self.append(ALL_STREAMS, Frame(pcm[start : start + MAX_PCM_BYTES], rate))

    def append(self, key: int, item: LogItem) -> None:
        """Add an input of one stream, or audio for all of them, and pass it on."""
        dropped = self.log.append(key, item)
        if dropped:
            taken = min((listener.taken for listener in self._listeners), default=0)
            lost = sum(entry.number > taken for entry in dropped if isinstance(entry.item, Frame))
            if lost:
                self._sink.emit(FramesDropped(where="uplink", frames=lost))
        audio = isinstance(item, Frame)
        size = len(item.pcm) if isinstance(item, Frame) else 0
        for listener in tuple(self._listeners):
            listener.logged(size, urgent=not audio)

    def listen(self, listener: Listener) -> None:
        """Keep what this listener may need."""
        self._listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """Forget a listener, and what only it needed. Idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self.trim()

    def trim(self) -> None:
        """Forget what no listener needs any more."""
        needed = (listener.needed for listener in self._listeners)
        self.log.forget(min(needed, default=self.log.next))
