"""What a source keeps for its listeners, and what it counts as lost."""

import pytest

from tests.fakes.event_log import EventLog
from voxray.base.errors import ProtocolError
from voxray.observability.events import FramesDropped
from voxray.pipelines.audio_source import AudioSource
from voxray.pipelines.engines.base import FlushInput

SECOND = bytes(16_000)
RATE = 8_000


class Listening:
    def __init__(self, source) -> None:
        self.needed, self.taken = source.log.next, source.log.next - 1
        self.heard = []
        source.listen(self)

    def logged(self, size, *, urgent) -> None:
        self.heard.append((size, urgent))


@pytest.fixture
def log():
    return EventLog()


@pytest.fixture
def source(log):
    return AudioSource(log)


def test_nothing_is_kept_for_nobody(source):
    source.push_audio(SECOND, RATE)
    assert source.log.next == 1


def test_every_listener_hears_of_audio_and_of_flushes(source):
    listeners = [Listening(source), Listening(source)]
    source.push_audio(SECOND, RATE)
    source.append(1, FlushInput())
    assert [listener.heard for listener in listeners] == [[(16_000, False), (0, True)]] * 2


def test_what_no_listener_needs_is_forgotten(source):
    one, two = Listening(source), Listening(source)
    for _ in range(3):
        source.push_audio(SECOND, RATE)
    one.needed, two.needed = 3, 2
    source.trim()
    assert source.log.first == 2
    source.leave(two)
    assert source.log.first == 3
    source.leave(one)
    source.leave(one)
    assert source.log.first == source.log.next


def test_only_audio_that_was_not_taken_in_counts_as_dropped(source, log):
    listener = Listening(source)
    for _ in range(31):
        source.push_audio(SECOND, RATE)
        listener.taken = source.log.next - 1
    assert log.events == []
    listener.taken = 0
    source.push_audio(SECOND, RATE)
    source.push_audio(SECOND, RATE)
    assert sum(event.frames for event in log.events) == source.log.first - 1
    assert log.events[0] == FramesDropped(where="uplink", frames=1)


def test_a_long_push_becomes_several_frames(source):
    Listening(source)
    source.push_audio(bytes(600_000), 48_000)
    assert source.log.next == 4
    assert source.log.end_s == pytest.approx(6.25)


@pytest.mark.parametrize(("pcm", "rate"), [(b"\0", 16_000), (b"\0\0", 100), (b"\0\0", 10**6)])
def test_audio_that_is_none_is_refused(source, pcm, rate):
    with pytest.raises(ProtocolError):
        source.push_audio(pcm, rate)
