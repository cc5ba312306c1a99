"""What goes up a connection: order, joining, windows, shared sources."""

import pytest

from voxray.base.errors import ProtocolError
from voxray.base.ids import HostId
from voxray.pipelines.engines.base import EndOfInput, FlushInput, TextInput
from voxray.pipelines.input_log import ALL_STREAMS, Frame, InputLog
from voxray.pipelines.uplink import Uplink
from voxray.pipelines.wire import messages as m

RATE = 16_000
TEN_MS = b"\1\0" * 160


class Up:
    def __init__(self) -> None:
        self.wakes = []
        self.uplink = Uplink(HostId("cafe0001"), self.wakes.append)

    def join(self, log, key=1, start=None, audio=True):
        opening = m.Open(0, "hears" if audio else "speaks", 0, {"a": 1}, "trace")
        return self.uplink.join(log, key, opening, start=start, audio=audio)

    def put(self, log, item, key=1):
        audio = isinstance(item, Frame)
        log.append(ALL_STREAMS if audio else key, item)
        self.uplink.ready(log, len(item.pcm) if audio else 0, urgent=not audio)

    def speak(self, log, pcm=TEN_MS, rate=RATE):
        self.put(log, Frame(pcm, rate))

    def take(self):
        batch = self.uplink.take()
        return () if batch is None else batch.messages


@pytest.fixture
def up():
    return Up()


def test_the_first_batch_says_who_and_which_version(up):
    first = up.uplink.take()
    assert (first.version, first.host, first.messages) == (m.VERSION, "cafe0001", ())
    assert up.uplink.take() is None


def test_an_open_carries_its_numbers_and_comes_before_its_audio(up):
    log = InputLog()
    up.join(log)
    up.speak(log)
    opened, audio = up.take()
    assert opened == m.Open(1, "hears", 1, {"a": 1}, "trace")
    assert audio == m.Audio(1, 1, RATE, TEN_MS)


def test_frames_of_all_calls_travel_in_one_batch_and_frames_of_a_call_join(up):
    logs = [InputLog() for _ in range(6)]
    for log in logs:
        up.join(log)
    while up.take():
        pass
    for _ in range(2):
        for log in logs:
            up.speak(log)
    messages = up.take()
    assert messages == tuple(m.Audio(n, 1, RATE, TEN_MS * 2) for n in range(1, 7))
    assert up.take() == ()


def test_audio_waits_and_controls_hurry(up):
    log = InputLog()
    up.join(log)
    up.take()
    up.wakes.clear()
    up.speak(log)
    assert up.wakes == [False]
    up.put(log, FlushInput())
    assert up.wakes == [False, True]
    for _ in range(20):
        up.speak(log, bytes(32_000))
    assert up.wakes[-1] is True


def test_order_within_a_stream_is_kept_and_sequence_numbers_have_no_gap(up):
    log = InputLog()
    up.join(log)
    up.speak(log)
    up.put(log, FlushInput())
    up.speak(log)
    up.speak(log, rate=8_000)
    up.put(log, EndOfInput())
    assert up.take()[1:] == (
        m.Audio(1, 1, RATE, TEN_MS),
        m.Flush(1),
        m.Audio(1, 2, RATE, TEN_MS),
        m.Audio(1, 3, 8_000, TEN_MS),
        m.EndInput(1),
    )


def test_what_exceeds_the_window_waits_for_acknowledgements(up):
    log = InputLog()
    lane, _ = up.join(log)
    half = bytes(m.INITIAL_WINDOW_BYTES // 2)
    for _ in range(3):
        up.speak(log, half)
    up.put(log, FlushInput())
    assert [type(message) for message in up.take()] == [m.Open, m.Audio, m.Audio]
    assert up.take() == ()
    up.uplink.acknowledge(m.Acknowledged(1, 1, m.INITIAL_WINDOW_BYTES))
    assert lane.taken == 1
    assert up.take() == (m.Audio(1, 3, RATE, half), m.Flush(1))


def test_a_narrow_window_never_stops_everything(up):
    log = InputLog()
    up.join(log)
    up.take()
    for sequence in range(1, 4):
        up.speak(log)
        assert up.take() == (m.Audio(1, sequence, RATE, TEN_MS),)
        up.uplink.acknowledge(m.Acknowledged(1, sequence, 0))


def test_the_count_of_unacknowledged_messages_is_bounded(up):
    log = InputLog()
    up.join(log)
    up.take()
    sent = 0
    for _ in range(m.MAX_UNACKNOWLEDGED + 10):
        up.speak(log)
        sent += len(up.take())
    assert sent == m.MAX_UNACKNOWLEDGED


def test_an_acknowledgement_of_joined_frames_covers_them_all(up):
    log = InputLog()
    lane, _ = up.join(log)
    for _ in range(3):
        up.speak(log)
    up.take()
    assert up.uplink.acknowledge(m.Acknowledged(1, 1, m.INITIAL_WINDOW_BYTES)) is lane
    assert lane.taken == 3


def test_an_acknowledgement_of_what_never_was_is_refused(up):
    with pytest.raises(ProtocolError, match="unknown source 4"):
        up.uplink.acknowledge(m.Acknowledged(4, 1, 100))


def test_a_late_acknowledgement_is_passed_over(up):
    lane, member = up.join(InputLog())
    up.uplink.leave(lane, member, tell=True)
    assert up.uplink.acknowledge(m.Acknowledged(1, 1, 100)) is None


def test_streams_of_a_source_share_its_way_up(up):
    log = InputLog()
    first, _ = up.join(log, key=1)
    second, member = up.join(log, key=2)
    assert first is second
    up.speak(log)
    up.put(log, FlushInput(), key=2)
    one, two, audio, flush = up.take()
    assert (one.source, two.source) == (1, 1)
    assert audio.source == 1
    assert flush == m.Flush(member.stream)


def test_a_replay_gets_its_own_way_up_and_disturbs_nobody(up):
    log = InputLog()
    live, _ = up.join(log, key=1)
    for _ in range(3):
        up.speak(log)
    up.take()
    replay, _ = up.join(log, key=2, start=2)
    assert replay is not live
    assert up.take()[1:] == (m.Audio(2, 1, RATE, TEN_MS * 2),)
    up.speak(log)
    assert {message.source for message in up.take()} == {1, 2}


def test_the_last_stream_that_leaves_closes_the_source(up):
    log = InputLog()
    lane, one = up.join(log, key=1)
    _, two = up.join(log, key=2)
    up.take()
    up.uplink.leave(lane, one, tell=True)
    assert up.take() == (m.Close(1),)
    up.uplink.leave(lane, two, tell=False)
    assert up.take() == (m.CloseSource(1),)
    up.speak(log)
    assert up.take() == ()


def test_text_goes_up_without_a_source(up):
    log = InputLog()
    lane, member = up.join(log, audio=False)
    up.put(log, TextInput("hello"))
    opened, text = up.take()
    assert (opened.source, text) == (0, m.Text(1, "hello"))
    up.uplink.leave(lane, member, tell=True)
    assert up.take() == (m.Close(1),)


def test_flushes_are_matched_with_their_log_entries(up):
    log = InputLog()
    _, member = up.join(log)
    for _ in range(2):
        up.speak(log)
        up.put(log, FlushInput())
    up.take()
    assert member.flushed_up_to(1) == 2
    assert member.flushed_up_to(1) is None
    assert member.flushed_up_to(2) == 4


def test_times_follow_the_log_over_what_was_dropped_and_where_a_stream_joined(up):
    log = InputLog(retained_s=1.0)
    lane, first = up.join(log, key=1)
    up.take()
    second_of_audio = bytes(2 * RATE)
    up.speak(log, second_of_audio)
    up.take()
    for _ in range(4):
        up.speak(log, second_of_audio)  # Three of them are dropped before they are sent.
    up.take()
    assert lane.log_seconds(first, 0.5) == 0.5
    assert lane.log_seconds(first, 1.5) == log.at_s(log.first) + 0.5
    _, late = up.join(log, key=2)
    assert lane.log_seconds(late, 0.0) == log.end_s


def test_many_opens_are_spread_over_batches(up):
    logs = [InputLog() for _ in range(10)]
    for log in logs:
        up.join(log)
        up.speak(log)
    batches = []
    while messages := up.take():
        batches.append([type(message) for message in messages])
    assert max(kinds.count(m.Open) for kinds in batches) <= 4
    assert sum(kinds.count(m.Audio) for kinds in batches) == 10
