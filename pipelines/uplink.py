"""What goes up one connection: in which order, how much at once, and what was taken in; no I/O."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from voxray.base.errors import ProtocolError
from voxray.base.ids import HostId, SourceId, StreamId
from voxray.pipelines.audio import BYTES_PER_SAMPLE
from voxray.pipelines.engines.base import EndOfInput, FlushInput, TextInput
from voxray.pipelines.input_log import Entry, Frame, InputLog
from voxray.pipelines.recent_audio import Place, SentAudio
from voxray.pipelines.wire import messages as m

_BATCH_BYTES = 512 * 1024
# Audio and text in one batch, before the last message that is added.
_OPENS_PER_BATCH = 4
# Options are the largest message: so many of them stay below the limit of a batch.
_CONTROLS_PER_BATCH = 4096
# Far below what a replica takes at once (`MAX_BATCH_MESSAGES`).
_JOINED_BYTES = 32 * 1024
# Frames that wait together go up as one message of this size at most.
_AGAIN_BYTES = 24
# What a message takes that names audio sent before, about.


@dataclass(eq=False, slots=True)
class Member:
    """A stream that a lane feeds.

    Attributes:
        stream: its number in the connection.
        key: its key in the input log.
        base_s: seconds of audio that the lane had sent when it joined.
        flushes: log numbers of the flushes that were sent and not yet worked through.
        flushed: flushes that were worked through.
    """

    stream: StreamId
    key: int
    base_s: float
    flushes: deque[int] = field(default_factory=deque)
    flushed: int = 0

    def flushed_up_to(self, count: int) -> int | None:
        """Note that `count` flushes were worked through; return the last one's log number."""
        number = None
        while self.flushed < count and self.flushes:
            number = self.flushes.popleft()
            self.flushed += 1
        return number


class Lane:
    """One input log on its way up one connection, for one or more streams."""

    def __init__(self, source: SourceId, log: InputLog, start: int) -> None:
        self.source = source
        self.log = log
        self.members: dict[int, Member] = {}
        self.cursor = max(start, log.first)
        """Number of the log entry that is sent next."""
        self.taken = self.cursor - 1
        """Number of the last log entry that the replica has taken in."""
        self.sent_s = 0.0
        self._sequence = 0
        self._window = m.INITIAL_WINDOW_BYTES
        self._unacknowledged: deque[tuple[int, int, int]] = deque()
        self._unacknowledged_bytes = 0
        # Where the seconds sent and the seconds of the log lie: one pair for each jump.
        self._timeline = [(0.0, log.at_s(self.cursor))]

    @property
    def pending(self) -> bool:
        """Whether the log holds something that was not sent."""
        return self.cursor < self.log.next

    def log_seconds(self, member: Member, stream_s: float) -> float:
        """Return the log's time for a time that the replica tells of a member's stream."""
        sent_s = member.base_s + stream_s
        start_s, log_s = next(
            (pair for pair in reversed(self._timeline) if pair[0] <= sent_s), self._timeline[0]
        )
        return log_s + (sent_s - start_s)

    def acknowledge(self, sequence: int, window: int) -> None:
        """Note what the replica has taken in, and how much may be on its way."""
        self._window = window
        while self._unacknowledged and self._unacknowledged[0][0] <= sequence:
            _, size, self.taken = self._unacknowledged.popleft()
            self._unacknowledged_bytes -= size

    def take(self, limit: int, recent: SentAudio) -> tuple[list[m.ClientMessage], int]:
        """Return the messages that may go up now, and their bytes; about `limit` at most.

        Args:
            limit: bytes.
            recent: what went up the connection of late; it is not sent again.
        """
        messages: list[m.ClientMessage] = []
        total = 0
        if self.cursor < self.log.first:
            self._jump()
        while self.pending and total < limit:
            entry = self.log.entry(self.cursor)
            if isinstance(entry.item, Frame):
                audio = self._audio(entry.item, recent)
                if audio is None:
                    break
                messages.append(audio)
                total += len(audio.pcm) if isinstance(audio, m.Audio) else _AGAIN_BYTES
                continue
            self.cursor += 1
            member = self.members.get(entry.key)
            if member is not None:
                messages.append(_control(member, entry))
                total += len(entry.item.text) if isinstance(entry.item, TextInput) else 0
        return messages, total

    def _audio(self, first: Frame, recent: SentAudio) -> m.Audio | m.AudioAgain | None:
        room = self._window - self._unacknowledged_bytes
        # One message may always be on its way, or a narrow window would stop everything.
        if self._unacknowledged and (
            len(first.pcm) > room or len(self._unacknowledged) >= m.MAX_UNACKNOWLEDGED
        ):
            return None
        limit = min(room, _JOINED_BYTES)
        place = recent.find(first)
        if place is not None:
            return self._again(place, self._gather(place.goes_on, limit))
        frames = self._gather(lambda item, _: recent.find(item) is None, limit)
        sequence = self._number(frames)
        audio = m.Audio(self.source, sequence, first.rate, b"".join(f.pcm for f in frames))
        recent.note(audio, frames)
        return audio

    def _again(self, place: Place, frames: tuple[Frame, ...]) -> m.AudioAgain:
        return m.AudioAgain(
            source=self.source,
            sequence=self._number(frames),
            of_source=place.audio.source,
            of_sequence=place.audio.sequence,
            offset=place.offset,
            size=sum(len(frame.pcm) for frame in frames),
        )

    def _gather(self, joins: Callable[[Frame, int], bool], limit: int) -> tuple[Frame, ...]:
        """Take the next frame, and those after it that join it, up to `limit` bytes."""
        frames: list[Frame] = []
        size = 0
        while self.pending:
            item = self.log.entry(self.cursor).item
            if not isinstance(item, Frame):
                break
            if frames and (
                item.rate != frames[0].rate or size + len(item.pcm) > limit or not joins(item, size)
            ):
                break
            frames.append(item)
            size += len(item.pcm)
            self.cursor += 1
        return tuple(frames)

    def _number(self, frames: tuple[Frame, ...]) -> int:
        """Return the sequence number of a message of these frames, which goes up now."""
        size = sum(len(frame.pcm) for frame in frames)
        self._sequence += 1
        self._unacknowledged.append((self._sequence, size, self.cursor - 1))
        self._unacknowledged_bytes += size
        self.sent_s += size / BYTES_PER_SAMPLE / frames[0].rate
        return self._sequence

    def _jump(self) -> None:
        # The log had to drop what was not yet sent: the replica's clock lags behind from here on.
        self.cursor = self.log.first
        self._timeline.append((self.sent_s, self.log.at_s(self.cursor)))


class Uplink:
    """Gathers what all streams of a connection send into batches."""

    def __init__(self, host: HostId, wake: Callable[[bool], None]) -> None:
        """Prepare.

        Args:
            host: who connects; said in the first batch.
            wake: called when there is something to `take`; True asks for it at once.
        """
        self._hello: HostId | None = host
        self._wake = wake
        self._last_stream = 0
        self._last_source = 0
        self._controls: deque[m.ClientMessage] = deque()
        self._lanes: dict[InputLog, list[Lane]] = {}
        self._sources: dict[int, Lane] = {}
        self._ready: dict[Lane, None] = {}
        self._waiting_bytes = 0
        self._recent = SentAudio()

    def remember(self, recall_bytes: int) -> None:
        """Name audio by its place instead of sending it twice; the replica remembers so much."""
        self._recent.remember(recall_bytes)

    def join(
        self, log: InputLog, key: int, opening: m.Open, *, start: int | None, audio: bool
    ) -> tuple[Lane, Member]:
        """Open a stream that listens to a log.

        Args:
            log: the stream's input.
            key: the stream's key in the log.
            opening: what to ask of the replica; its numbers are given here.
            start: number of the first log entry that the stream needs; None joins the audio
                that goes up already, wherever it is.
            audio: whether the stream listens to audio.
        """
        lane = next(
            (lane for lane in self._lanes.get(log, ()) if start is None or lane.cursor == start),
            None,
        )
        if lane is None:
            lane = self._new_lane(log, log.next if start is None else start, audio=audio)
        self._last_stream += 1
        member = Member(StreamId(self._last_stream), key, lane.sent_s)
        lane.members[key] = member
        self._controls.append(
            m.Open(
                stream=member.stream,
                engine=opening.engine,
                source=lane.source,
                options=opening.options,
                traceparent=opening.traceparent,
            )
        )
        if lane.pending:
            self._ready[lane] = None
        self._wake(True)
        return lane, member

    def leave(self, lane: Lane, member: Member, *, tell: bool) -> None:
        """End a stream's listening; `tell` the replica unless it knows."""
        lane.members.pop(member.key, None)
        if tell:
            self.control(m.Close(member.stream))
        if not lane.members:
            self._drop(lane)

    def ready(self, log: InputLog, size: int, *, urgent: bool) -> None:
        """Note that a log has grown by `size` bytes."""
        for lane in self._lanes.get(log, ()):
            self._ready[lane] = None
            self._waiting_bytes += size
        self._wake(urgent or self._waiting_bytes >= _BATCH_BYTES)

    def control(self, message: m.ClientMessage) -> None:
        """Send a message that waits for no audio."""
        self._controls.append(message)
        self._wake(True)

    def acknowledge(self, message: m.Acknowledged) -> Lane | None:
        """Note an acknowledgement; return the lane it is about, if it is there.

        Raises:
            ProtocolError: it is about audio that was never sent.
        """
        lane = self._sources.get(message.source)
        if lane is None:
            if message.source > self._last_source:
                raise ProtocolError(f"got an acknowledgement for unknown source {message.source}")
            return None
        lane.acknowledge(message.sequence, message.window)
        if lane.pending:
            self._ready[lane] = None
            self._wake(True)
        return lane

    def take(self) -> m.ClientBatch | None:
        """Return the next batch, or None when nothing may go up now."""
        messages: list[m.ClientMessage | m.Malformed] = []
        opens = 0
        while self._controls and opens < _OPENS_PER_BATCH and len(messages) < _CONTROLS_PER_BATCH:
            message = self._controls.popleft()
            opens += isinstance(message, m.Open)
            messages.append(message)
        total = 0
        # Lanes whose stream is not yet opened wait, so that no audio comes before its `Open`.
        while not self._controls and self._ready and total < _BATCH_BYTES:
            lane = next(iter(self._ready))
            del self._ready[lane]
            taken, size = lane.take(_BATCH_BYTES - total, self._recent)
            messages.extend(taken)
            total += size
            if taken and lane.pending:
                self._ready[lane] = None
        if not self._ready:
            self._waiting_bytes = 0
        host, self._hello = self._hello, None
        if host is not None:
            return m.ClientBatch(tuple(messages), m.VERSION, host)
        return m.ClientBatch(tuple(messages)) if messages else None

    def _new_lane(self, log: InputLog, start: int, *, audio: bool) -> Lane:
        source = 0
        if audio:
            self._last_source += 1
            source = self._last_source
        lane = Lane(SourceId(source), log, start)
        self._lanes.setdefault(log, []).append(lane)
        if audio:
            self._sources[source] = lane
        return lane

    def _drop(self, lane: Lane) -> None:
        lanes = self._lanes.get(lane.log, [])
        if lane in lanes:
            lanes.remove(lane)
        if not lanes:
            self._lanes.pop(lane.log, None)
        self._ready.pop(lane, None)
        if self._sources.pop(lane.source, None) is not None:
            self.control(m.CloseSource(lane.source))


def _control(member: Member, entry: Entry) -> m.ClientMessage:
    match entry.item:
        case TextInput(text=text):
            return m.Text(member.stream, text)
        case FlushInput(discard=discard):
            member.flushes.append(entry.number)
            return m.Flush(member.stream, discard)
        case EndOfInput():
            return m.EndInput(member.stream)
        case Frame():
            raise RuntimeError("audio is for a source, not for a stream")
