"""What a replica keeps of one stream: how far its input was worked through, and its output."""

from collections import deque

from voxray.pipelines.audio import BYTES_PER_SAMPLE, samples_to_pcm
from voxray.pipelines.engine_host import EngineStream
from voxray.pipelines.engines.base import Samples
from voxray.pipelines.wire import messages as m

SPEECH_BYTES = 32 * 1024
"""Speech in one message at most; small against the credit that a host gives at a time."""
MAX_CREDIT_BYTES = 4 * 1024 * 1024
"""Speech that a stream may send ahead, whatever its host allows: a minute and a half at 22 kHz."""
_MAX_PENDING_BYTES = m.INITIAL_WINDOW_BYTES + m.MAX_PCM_BYTES
# A host sends no more than the window, except that one message may always be on its way.


class ServedStream:
    """One stream of a host. Speech waits for credit, and all that follows waits behind it."""

    def __init__(self, number: int, engine: EngineStream, source: "ServedSource | None") -> None:
        self.number = number
        self.engine = engine
        self.source = source
        self.input_ended = False
        self.taken = source.sequence if source is not None else 0
        """Sequence number of the source up to which the engine has worked."""
        self.held_bytes = 0
        """Speech that waits for credit."""
        self._credit = 0
        self._said = 0
        self._held: deque[m.ServerMessage] = deque()
        # Inputs accepted when an audio message, or a flush, was handed in.
        self._audio_marks: deque[tuple[int, int]] = deque()
        # The same for text: inputs accepted, and bytes. For flushes: inputs accepted, and flushes.
        self._text_marks: deque[tuple[int, int]] = deque()
        self._flush_marks: deque[tuple[int, int]] = deque()
        self._flushes_pushed = 0
        self._flushes = 0
        self.unspoken_bytes = 0
        """Text that the engine has not worked through."""

    @property
    def holds(self) -> bool:
        """Whether messages wait for credit."""
        return bool(self._held)

    def audio_pushed(self, sequence: int) -> None:
        """Note that the audio with this number was handed to the engine just now."""
        self._audio_marks.append((self.engine.accepted, sequence))

    def flush_pushed(self) -> None:
        """Note that a flush was handed to the engine just now."""
        self._flushes_pushed += 1
        if self._flush_marks and self._flush_marks[-1][0] == self.engine.accepted:
            # A full queue keeps one of flushes in a row, and so do we.
            self._flush_marks.pop()
        self._flush_marks.append((self.engine.accepted, self._flushes_pushed))

    def text_pushed(self, size: int) -> None:
        """Note that text was handed to the engine just now."""
        self._text_marks.append((self.engine.accepted, size))
        self.unspoken_bytes += size

    def progress(self, consumed: int) -> list[m.ServerMessage]:
        """Note that the engine worked through `consumed` inputs; return what can be sent."""
        while self._audio_marks and self._audio_marks[0][0] <= consumed:
            self.taken = self._audio_marks.popleft()[1]
        while self._text_marks and self._text_marks[0][0] <= consumed:
            self.unspoken_bytes -= self._text_marks.popleft()[1]
        before = self._flushes
        while self._flush_marks and self._flush_marks[0][0] <= consumed:
            self._flushes = self._flush_marks.popleft()[1]
        return self.say(m.Flushed(self.number, self._flushes)) if self._flushes > before else []

    def say(self, message: m.ServerMessage) -> list[m.ServerMessage]:
        """Queue a message behind the speech that waits; return what can be sent."""
        if isinstance(message, m.Flushed) and self._held and isinstance(self._held[-1], m.Flushed):
            self._held.pop()  # The count says what that one said.
        self._held.append(message)
        return self._released()

    def speak(self, samples: Samples) -> list[m.ServerMessage]:
        """Queue synthesised samples; return what can be sent."""
        pcm = samples_to_pcm(samples)
        rate = self.engine.info.sample_rate
        for start in range(0, len(pcm), SPEECH_BYTES):
            part = pcm[start : start + SPEECH_BYTES]
            self._held.append(m.Speech(self.number, self._said, rate, part))
            self._said += len(part) // BYTES_PER_SAMPLE
        self.held_bytes += len(pcm)
        return self._released()

    def add_credit(self, count: int) -> list[m.ServerMessage]:
        """Allow `count` more bytes of speech; return what can be sent now."""
        self._credit = min(self._credit + count, MAX_CREDIT_BYTES)
        return self._released()

    def _released(self) -> list[m.ServerMessage]:
        released: list[m.ServerMessage] = []
        while self._held:
            message = self._held[0]
            if isinstance(message, m.Speech):
                if len(message.pcm) > self._credit:
                    break
                self._credit -= len(message.pcm)
                self.held_bytes -= len(message.pcm)
            released.append(self._held.popleft())
        return released


class ServedSource:
    """Audio of one source, and the streams that listen to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sequence = 0
        """Number of the last audio message."""
        self.acknowledged = 0
        self.listeners: dict[int, ServedStream] = {}
        self._sizes: deque[int] = deque()
        self._pending_bytes = 0

    def heard(self, size: int) -> bool:
        """Note the audio message `sequence`; return whether the host keeps to its window."""
        self._sizes.append(size)
        self._pending_bytes += size
        return self._pending_bytes <= _MAX_PENDING_BYTES

    def advance(self) -> bool:
        """Move `acknowledged` to what all listeners have worked through; tell if it moved."""
        open_inputs = [s.taken for s in self.listeners.values() if not s.input_ended]
        taken = min(open_inputs, default=self.sequence)
        if taken <= self.acknowledged:
            return False
        for _ in range(taken - self.acknowledged):
            self._pending_bytes -= self._sizes.popleft()
        self.acknowledged = taken
        return True
