"""What a replica keeps of one stream: how far its input was worked through, and its output."""

from collections import deque

from voxray.pipelines.audio import BYTES_PER_SAMPLE, samples_to_pcm
from voxray.pipelines.engine_host import EngineStream
from voxray.pipelines.engines.base import Samples
from voxray.pipelines.wire import messages as m

SPEECH_BYTES = 32 * 1024
"""Speech in one message at most; small against the credit that a host gives at a time."""


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
        self._flush_marks: deque[int] = deque()
        self._flushes = 0

    @property
    def holds(self) -> bool:
        """Whether messages wait for credit."""
        return bool(self._held)

    def audio_pushed(self, sequence: int) -> None:
        """Note that the audio with this number was handed to the engine just now."""
        self._audio_marks.append((self.engine.accepted, sequence))

    def flush_pushed(self) -> None:
        """Note that a flush was handed to the engine just now."""
        self._flush_marks.append(self.engine.accepted)

    def progress(self, consumed: int) -> list[m.ServerMessage]:
        """Note that the engine worked through `consumed` inputs; return what can be sent."""
        while self._audio_marks and self._audio_marks[0][0] <= consumed:
            self.taken = self._audio_marks.popleft()[1]
        before = self._flushes
        while self._flush_marks and self._flush_marks[0] <= consumed:
            self._flush_marks.popleft()
            self._flushes += 1
        return self.say(m.Flushed(self.number, self._flushes)) if self._flushes > before else []

    def say(self, message: m.ServerMessage) -> list[m.ServerMessage]:
        """Queue a message behind the speech that waits; return what can be sent."""
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
        self._credit += count
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

    def advance(self) -> bool:
        """Move `acknowledged` to what all listeners have worked through; tell if it moved."""
        open_inputs = [s.taken for s in self.listeners.values() if not s.input_ended]
        taken = min(open_inputs, default=self.sequence)
        if taken <= self.acknowledged:
            return False
        self.acknowledged = taken
        return True
