"""Audio that is sent once, whoever hears it: both ends of a connection remember the last of it.

livekit-agents hands the frames of a call to its VAD, its STT and its turn detector apart, through
nodes that a program may override: one of them may get them late, changed, or not at all. So each
stream keeps a source of its own, with its own order, and says what it was given. Only the bytes
are shared: a frame that went up a moment ago is named by its place (`AudioAgain`), and the other
end takes it from its memory. Frames are told by their bytes, so nothing can be mixed up.
"""

from collections import deque
from dataclasses import dataclass

from voxray.base.errors import ProtocolError
from voxray.pipelines.input_log import Frame
from voxray.pipelines.wire import messages as m

RECALL_BYTES = 2 * 1024 * 1024
"""Audio of a connection that its replica remembers: 0.4 s of 100 calls at 24 kHz."""
_WORTH_BYTES = 64
# Naming the place of a frame takes about 20 bytes.


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where audio is to be found: `offset` bytes into a message that was sent."""

    audio: m.Audio
    offset: int

    def goes_on(self, frame: Frame, size: int) -> bool:
        """Tell whether the frame is what follows `size` bytes after the place."""
        return frame.rate == self.audio.rate and self.audio.pcm.startswith(
            frame.pcm, self.offset + size
        )


class SentAudio:
    """What a client has sent of late, to be found by its bytes."""

    def __init__(self) -> None:
        self._limit = 0
        self._held = 0
        self._messages: deque[tuple[m.Audio, tuple[Frame, ...]]] = deque()
        self._places: dict[Frame, Place] = {}

    def remember(self, limit: int) -> None:
        """Keep the last `limit` bytes from now on: what the replica says that it remembers."""
        self._limit = min(limit, RECALL_BYTES)

    def note(self, audio: m.Audio, frames: tuple[Frame, ...]) -> None:
        """Note a message that goes up now, and the frames that it was joined from."""
        if not self._limit:
            return
        self._messages.append((audio, frames))
        self._held += len(audio.pcm)
        offset = len(audio.pcm)
        # Backwards: of equal frames (silence) the first counts, which most can follow.
        for frame in reversed(frames):
            offset -= len(frame.pcm)
            if len(frame.pcm) >= _WORTH_BYTES:
                self._places[frame] = Place(audio, offset)
        while self._held > self._limit:
            self._forget()

    def find(self, frame: Frame) -> Place | None:
        """Return where the replica remembers such a frame from."""
        return self._places.get(frame)

    def _forget(self) -> None:
        audio, frames = self._messages.popleft()
        self._held -= len(audio.pcm)
        for frame in frames:
            place = self._places.get(frame)
            if place is not None and place.audio is audio:
                del self._places[frame]


class HeardAudio:
    """What a replica has heard of late on a connection."""

    def __init__(self) -> None:
        self._held = 0
        self._messages: dict[tuple[int, int], m.Audio] = {}

    def audio(self, message: m.Audio | m.AudioAgain) -> m.Audio:
        """Return the audio of a message; remember it where it is new.

        Raises:
            ProtocolError: the message repeats what was never heard, or too long ago.
        """
        if isinstance(message, m.AudioAgain):
            return self._recall(message)
        self._held += len(message.pcm)
        replaced = self._messages.pop((message.source, message.sequence), None)
        self._held -= len(replaced.pcm) if replaced is not None else 0
        self._messages[message.source, message.sequence] = message
        while self._held > RECALL_BYTES:
            self._held -= len(self._messages.pop(next(iter(self._messages))).pcm)
        return message

    def _recall(self, again: m.AudioAgain) -> m.Audio:
        audio = self._messages.get((again.of_source, again.of_sequence))
        end = again.offset + again.size
        if audio is None or end > len(audio.pcm):
            raise ProtocolError(
                f"audio {again.sequence} of source {again.source} repeats bytes {again.offset} to"
                f" {end} of audio {again.of_sequence} of source {again.of_source}, which are not"
                " remembered"
            )
        return m.Audio(again.source, again.sequence, audio.rate, audio.pcm[again.offset : end])
