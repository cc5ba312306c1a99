"""Whatever a program makes of the frames of its call, each stream hears what it was given."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxray.base.errors import ProtocolError
from voxray.base.ids import HostId
from voxray.pipelines.input_log import ALL_STREAMS, Frame, InputLog
from voxray.pipelines.recent_audio import RECALL_BYTES, HeardAudio
from voxray.pipelines.uplink import Uplink
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import messages as m

RATES = (8_000, 16_000)
frames = st.tuples(st.integers(0, 3), st.sampled_from((4, 64, 480)), st.sampled_from(RATES)).map(
    lambda drawn: Frame(bytes([drawn[0]]) * drawn[1], drawn[2])
)
"""Few kinds of frames, so that equal ones are common: silence is, in calls."""
fates = st.sampled_from(("as it is", "dropped", "changed", "later", "again"))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), frames, st.tuples(fates, fates, fates)),
        st.tuples(st.just("late frames"), st.integers(0, 2)),
        st.tuples(st.just("send")),
        st.tuples(st.just("acknowledge")),
        st.tuples(st.just("rejoin"), st.integers(0, 2)),
    ),
    max_size=80,
)


class Call:
    """Three streams of one call, given its frames each on its own way; and a replica's ears."""

    def __init__(self, recall_bytes: int) -> None:
        self.uplink = Uplink(HostId("cafe0001"), lambda _: None)
        self.uplink.remember(recall_bytes)
        self.memory = HeardAudio()
        self.logs = [InputLog() for _ in range(3)]
        self.places = [self._join(log, None) for log in self.logs]
        self.given: list[list[Frame]] = [[], [], []]
        self.late: list[list[Frame]] = [[], [], []]
        self.heard: dict[int, list[Frame]] = {}
        self.audio_bytes = 0
        self.unacknowledged: list[tuple[int, int]] = []

    def _join(self, log, start):
        return self.uplink.join(log, 1, m.Open(0, "hears"), start=start, audio=True)

    def push(self, number, frame):
        self.given[number].append(frame)
        self.logs[number].append(ALL_STREAMS, frame)
        self.uplink.ready(self.logs[number], len(frame.pcm), urgent=False)

    def frame(self, frame, fates):
        for number, fate in enumerate(fates):
            if fate == "later":
                self.late[number].append(frame)
            elif fate == "changed":
                self.push(number, Frame(frame.pcm[:-1] + b"\xff", frame.rate))
            else:
                for _ in range({"dropped": 0, "again": 2}.get(fate, 1)):
                    self.push(number, frame)

    def late_frames(self, number):
        for frame in self.late[number]:
            self.push(number, frame)
        self.late[number].clear()

    def rejoin(self, number):
        """Begin anew, from where the log is, as a stream that was reopened."""
        lane, member = self.places[number]
        self.uplink.leave(lane, member, tell=True)
        self.logs[number].forget(self.logs[number].next)
        self.given[number] = []
        self.places[number] = self._join(self.logs[number], self.logs[number].next)

    def send(self):
        while (batch := self.uplink.take()) is not None:
            for message in codec.decode_client_batch(codec.encode_client_batch(batch)).messages:
                if isinstance(message, m.Audio | m.AudioAgain):
                    self._hear(message)

    def acknowledge(self):
        for source, sequence in self.unacknowledged:
            self.uplink.acknowledge(m.Acknowledged(source, sequence, m.INITIAL_WINDOW_BYTES))
        self.unacknowledged.clear()

    def _hear(self, message):
        audio = self.memory.audio(message)
        self.heard.setdefault(audio.source, []).append(Frame(audio.pcm, audio.rate))
        self.audio_bytes += len(message.pcm) if isinstance(message, m.Audio) else 0
        self.unacknowledged.append((audio.source, audio.sequence))

    def sound(self, number):
        """What the replica has heard of a stream."""
        return joined(self.heard.get(self.places[number][0].source, []))


def joined(frames_):
    """The sound of frames, however it was cut: one part for each stretch of one rate."""
    parts = []
    for rate, run in itertools.groupby(frames_, key=lambda frame: frame.rate):
        parts.append((rate, b"".join(frame.pcm for frame in run)))
    return parts


@given(steps, st.sampled_from((0, 500, 4_000, RECALL_BYTES)))
def test_each_stream_hears_what_it_was_given(all_steps, recall_bytes):
    call = Call(recall_bytes)
    for name, *details in all_steps:
        getattr(call, name.replace(" ", "_"))(*details)
    while any(lane.pending for lane, _ in call.places):
        call.send()
        call.acknowledge()
    for number in range(3):
        assert call.sound(number) == joined(call.given[number])


def test_the_frames_of_a_call_go_up_once():
    call = Call(RECALL_BYTES)
    for number in range(200):
        call.frame(Frame(number.to_bytes(2, "little") * 240, 24_000), ("as it is",) * 3)
        if number % 3:
            call.send()
            call.acknowledge()
    assert call.audio_bytes == 200 * 480


def test_streams_of_a_replica_that_remembers_nothing_each_get_their_own():
    call = Call(0)
    for number in range(20):
        call.frame(Frame(number.to_bytes(2, "little") * 240, 24_000), ("as it is",) * 3)
        call.send()
    assert call.audio_bytes == 3 * 20 * 480


def test_a_branch_of_the_program_that_comes_late_costs_its_own_audio_only():
    call = Call(10_000)
    for number in range(100):
        frame = Frame(number.to_bytes(2, "little") * 240, 24_000)
        call.frame(frame, ("as it is", "as it is", "later"))
        call.send()
        call.acknowledge()
    call.late_frames(2)
    call.send()
    assert call.audio_bytes <= 2 * 100 * 480
    assert call.sound(2) == call.sound(0)


@pytest.mark.parametrize(
    ("of_source", "of_sequence", "offset", "size"),
    [(9, 1, 0, 2), (1, 2, 0, 2), (1, 1, 98, 4), (1, 1, 100, 2)],
)
def test_audio_that_is_not_remembered_is_refused(of_source, of_sequence, offset, size):
    memory = HeardAudio()
    memory.audio(m.Audio(1, 1, 16_000, bytes(100)))
    with pytest.raises(ProtocolError, match="not remembered"):
        memory.audio(m.AudioAgain(2, 1, of_source, of_sequence, offset, size))


def test_the_memory_of_a_replica_is_bounded():
    memory = HeardAudio()
    part = bytes(m.MAX_PCM_BYTES)
    count = RECALL_BYTES // len(part)
    for sequence in range(1, count + 2):
        memory.audio(m.Audio(1, sequence, 16_000, part))
    memory.audio(m.AudioAgain(1, count + 2, 1, 2, 0, 2))
    with pytest.raises(ProtocolError, match="not remembered"):
        memory.audio(m.AudioAgain(1, count + 3, 1, 1, 0, 2))
