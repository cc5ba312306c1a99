"""What a replica does with the messages of one host."""

import numpy as np
import pytest

from tests.fakes.engine_host import FakeEngineHost
from tests.fakes.event_log import EventLog
from voxray.actors import inference_connection, outbox, served_stream
from voxray.actors.inference_connection import InferenceConnection
from voxray.base.errors import (
    EngineConfigError,
    EngineError,
    ProtocolError,
    StreamClosedError,
    StreamFinishedError,
)
from voxray.observability.events import StreamFailed
from voxray.pipelines.engines.base import (
    EndOfInput,
    FlushInput,
    SpeechOutput,
    TextInput,
    TranscriptOutput,
)
from voxray.pipelines.wire import messages as m

PCM = b"\0\0" * 160
WORDS = TranscriptOutput(text="w", final=True, start_s=0.0, end_s=1.0)


class Host:
    """One host's connection to a fake engine host."""

    def __init__(self, **options) -> None:
        self.engines = FakeEngineHost(**options)
        self.wakes = self.overflows = 0
        self.log = EventLog()
        self.connection = InferenceConnection(
            self.engines,
            wake=self._wake,
            on_overflow=self._overflow,
            max_streams=4,
            sink=self.log,
        )

    def _wake(self) -> None:
        self.wakes += 1

    def _overflow(self) -> None:
        self.overflows += 1

    def say(self, *messages) -> tuple[m.ServerMessage, ...]:
        for message in messages:
            self.connection.handle(message)
        return self.connection.take()

    def open(self, stream, engine="hears", source=None):
        source = stream if source is None and engine == "hears" else source or 0
        (opened,) = self.say(m.Open(stream, engine, source))
        assert isinstance(opened, m.Opened)
        return self.engines.opened[-1]

    def audio(self, source, sequence, pcm=PCM):
        return self.say(m.Audio(source, sequence, 16_000, pcm))


@pytest.fixture
def host():
    return Host()


def failure(messages):
    (failed,) = (message for message in messages if isinstance(message, m.Failed))
    return failed.stream, failed.code, failed.retryable


def test_input_reaches_the_engine_in_order(host):
    hearing, speaking = host.open(1), host.open(2, "speaks")
    host.audio(1, 1)
    host.say(m.Flush(1), m.EndInput(1), m.Text(2, "hello"))
    assert hearing.inputs == [(PCM, 16_000), FlushInput(), EndOfInput()]
    assert speaking.inputs == [TextInput("hello")]


def test_results_go_out_with_the_stream_and_wake_the_writer(host):
    first, second = host.open(1), host.open(2)
    woken = host.wakes
    second.say(WORDS)
    first.say(WORDS)
    assert host.wakes == woken + 2
    assert host.connection.take() == (m.Result(2, WORDS), m.Result(1, WORDS))


def test_audio_is_acknowledged_once_all_listeners_have_worked_through_it(host):
    one = host.open(1, source=5)
    two = host.open(2, source=5)
    host.audio(5, 1)
    host.audio(5, 2)
    one.work()
    assert host.connection.take() == ()
    two.work(1)
    assert host.connection.take() == (m.Acknowledged(5, 1, m.INITIAL_WINDOW_BYTES),)
    host.say(m.Close(2))
    host.audio(5, 3)
    one.work()
    assert [message.sequence for message in host.connection.take()] == [3]


def test_a_listener_whose_input_ended_holds_nothing_back(host):
    done = host.open(1, source=5)
    going = host.open(2, source=5)
    host.say(m.EndInput(1))
    host.audio(5, 1)
    going.work()
    assert [message.sequence for message in host.connection.take()] == [1]
    assert done.inputs == [EndOfInput()]


def test_acknowledgements_come_after_the_results_and_only_once(host):
    stream = host.open(1)
    for sequence in range(1, 4):
        host.connection.handle(m.Audio(1, sequence, 16_000, PCM))
        stream.work()
    stream.say(WORDS)
    stream.work()
    result, acknowledged = host.connection.take()
    assert result == m.Result(1, WORDS)
    assert acknowledged == m.Acknowledged(1, 3, m.INITIAL_WINDOW_BYTES)


def test_a_worked_flush_is_told_after_its_results(host):
    stream = host.open(1)
    host.audio(1, 1)
    host.say(m.Flush(1))
    stream.say(WORDS)
    stream.work()
    kinds = [type(message) for message in host.connection.take()]
    assert kinds == [m.Result, m.Flushed, m.Acknowledged]


def test_a_flush_with_nothing_to_flush_is_told_at_once(host):
    stream = host.open(1)
    stream.push = lambda item: True  # Taken, and left out of the counts.
    assert host.say(m.Flush(1)) == (m.Flushed(1, 1),)


def test_speech_waits_for_credit_and_everything_behind_it_too(host):
    stream = host.open(1, "speaks")
    samples = np.arange(20_000, dtype=np.int16)
    stream.say(SpeechOutput(samples))
    stream.end(StreamFinishedError("done"))
    assert host.connection.take() == ()
    (first,) = host.say(m.Credit(1, 32 * 1024))
    assert (first.first_sample, len(first.pcm), first.rate) == (0, 32 * 1024, 16_000)
    second, finished = host.say(m.Credit(1, 32 * 1024))
    assert second.first_sample == 16 * 1024
    assert np.array_equal(np.frombuffer(first.pcm + second.pcm, dtype="<i2"), samples)
    assert finished == m.Finished(1)
    assert host.connection.streams == 0


def test_speech_that_nobody_takes_ends_the_stream(host, monkeypatch):
    monkeypatch.setattr(inference_connection, "MAX_HELD_BYTES", 1000)
    stream = host.open(1, "speaks")
    stream.say(SpeechOutput(np.zeros(501, dtype=np.int16)))
    assert failure(host.connection.take()) == (1, "overloaded", False)
    assert stream.closed


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (EngineError("broken"), (1, "engine", False)),
        (EngineConfigError("no such voice"), (1, "config", False)),
        (StreamClosedError("host closes"), (1, "overloaded", True)),
    ],
)
def test_the_end_of_a_stream_is_told_with_its_cause(host, end, expected):
    host.open(1).end(end)
    assert failure(host.connection.take()) == expected
    assert host.connection.streams == 0


def test_refusals_say_whether_another_replica_may_do():
    host = Host(max_streams=1)
    assert failure(host.say(m.Open(9, "sees"))) == (9, "config", False)
    assert failure(host.say(m.Open(9, "hears", 1, {"wrong": 1}))) == (9, "config", False)
    host.open(1)
    assert failure(host.say(m.Open(2, "hears", 2))) == (2, "limit", True)


@pytest.mark.parametrize(
    ("nonsense", "code"),
    [
        (m.Audio(1, 3, 16_000, PCM), "protocol"),
        (m.Open(1, "hears", 1), "protocol"),
        (m.Malformed(1, 0, ProtocolError("bad")), "input"),
        (m.Malformed(0, 1, ProtocolError("bad")), "input"),
    ],
)
def test_nonsense_ends_its_stream_and_the_neighbour_goes_on(host, nonsense, code):
    bad, good = host.open(1), host.open(2)
    assert failure(host.say(nonsense)) == (1, code, False)
    assert bad.closed
    host.audio(2, 1)
    good.say(WORDS)
    assert host.connection.take() == (m.Result(2, WORDS),)


def test_input_after_the_end_of_input_is_nonsense(host):
    host.open(1)
    assert failure(host.say(m.EndInput(1), m.Flush(1))) == (1, "input", False)


def test_a_malformed_open_is_answered(host):
    assert failure(host.say(m.Malformed(4, 0, ProtocolError("bad")))) == (4, "input", False)


def test_a_full_engine_refuses_the_stream_but_another_replica_may_do(host):
    host.open(1).full = True
    assert failure(host.audio(1, 1)) == (1, "overloaded", True)


def test_an_engine_that_can_not_use_the_input_ends_the_stream(host):
    host.open(1).raises = ProtocolError("takes audio")
    assert failure(host.say(m.Text(1, "words"))) == (1, "input", False)


def test_input_for_a_stream_that_just_ended_waits_for_its_end(host):
    stream = host.open(1)
    stream.raises = StreamFinishedError("over")
    host.audio(1, 1)
    stream.end(EngineError("broken"))
    assert failure(host.connection.take()) == (1, "engine", False)


def test_messages_for_what_is_gone_are_passed_over(host):
    gone = [m.Text(9, "w"), m.Flush(9), m.EndInput(9), m.Close(9), m.CloseSource(9)]
    assert host.say(*gone, m.Credit(9, 5), m.Malformed(0, 9, ProtocolError("bad"))) == ()
    assert host.audio(9, 7) == ()


def test_a_source_keeps_its_numbers_between_streams(host):
    host.open(1, source=5)
    host.audio(5, 1)
    host.say(m.Close(1))
    assert [message.sequence for message in host.audio(5, 2)] == [2]
    later = host.open(2, source=5)
    host.audio(5, 3)
    assert later.inputs == [(PCM, 16_000)]


def test_closing_a_source_ends_the_input_of_its_streams(host):
    stream = host.open(1, source=5)
    host.say(m.CloseSource(5))
    assert stream.inputs == [EndOfInput()]


def test_too_many_sources_end_the_connection(host, monkeypatch):
    monkeypatch.setattr(inference_connection, "MAX_SOURCES", 1)
    host.open(1)
    with pytest.raises(ProtocolError, match="1 sources"):
        host.say(m.Open(2, "hears", 2))
    assert len(host.engines.opened) == 1


def test_a_closed_stream_says_nothing_more_even_if_its_number_is_used_again(host):
    old = host.open(1)
    host.say(m.Close(1))
    assert old.closed
    host.open(1, source=2)
    old.say(WORDS)
    old.work()
    old.end(EngineError("late"))
    assert host.connection.take() == ()
    assert host.connection.streams == 1


def test_a_host_that_does_not_read_is_given_up_once(host, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)
    stream = host.open(1)
    for _ in range(5):
        stream.say(WORDS)
    assert host.overflows == 1
    assert stream.closed
    assert host.say(m.Open(2, "hears", 2)) == ()
    assert len(host.engines.opened) == 1


def test_a_large_backlog_goes_out_in_several_batches(host):
    stream = host.open(1, "speaks")
    stream.say(SpeechOutput(np.zeros(500_000, dtype=np.int16)))
    batches = [host.say(m.Credit(1, 2_000_000))]
    while batch := host.connection.take():
        batches.append(batch)
    sizes = [sum(len(message.pcm) for message in batch) for batch in batches]
    assert sum(sizes) == 1_000_000
    assert max(sizes) < 1024 * 1024
    assert len(sizes) > 1


def test_closing_frees_every_stream(host):
    streams = [host.open(number) for number in range(1, 4)]
    host.connection.close()
    host.connection.close()
    assert all(stream.closed for stream in streams)
    assert host.connection.take() == ()


def test_a_host_has_so_many_streams_and_no_more(host):
    for number in range(1, 5):
        host.open(number)
    assert failure(host.say(m.Open(5, "hears", 5))) == (5, "limit", True)
    host.say(m.Close(1))
    host.open(5)
    assert len(host.engines.opened) == 5


def test_audio_beyond_the_window_ends_its_listeners_and_nobody_else(host):
    host.open(1)
    good = host.open(2)
    piece = bytes(m.MAX_PCM_BYTES)
    assert host.audio(1, 1, piece) == ()
    # A full window, and the one message that may always be on its way.
    assert host.audio(1, 2, piece) == ()
    assert failure(host.audio(1, 3, PCM)) == (1, "protocol", False)
    good.say(WORDS)
    assert host.connection.take() == (m.Result(2, WORDS),)


def test_audio_that_is_worked_through_makes_room_in_the_window(host):
    stream = host.open(1)
    piece = bytes(m.MAX_PCM_BYTES)
    for sequence in range(1, 9):
        host.audio(1, sequence, piece)
        stream.work()
    assert host.connection.streams == 1


def test_text_beyond_measure_ends_its_stream(host, monkeypatch):
    monkeypatch.setattr(inference_connection, "MAX_TEXT_BYTES", 10)
    stream = host.open(1, "speaks")
    assert host.say(m.Text(1, "12345678")) == ()
    stream.work()
    assert host.say(m.Text(1, "12345678")) == ()
    assert failure(host.say(m.Text(1, "123"))) == (1, "limit", False)
    assert stream.closed


def test_credit_is_bounded_whatever_the_host_grants(host):
    stream = host.open(1, "speaks")
    host.say(m.Credit(1, 2**63), m.Credit(1, 2**63))
    stream.say(SpeechOutput(np.zeros(served_stream.MAX_CREDIT_BYTES, dtype=np.int16)))
    sent = 0
    while batch := host.connection.take():
        sent += sum(len(message.pcm) for message in batch)
    assert sent == served_stream.MAX_CREDIT_BYTES


def test_speech_that_nobody_reads_is_bounded_in_bytes(host, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 100_000)
    stream = host.open(1, "speaks")
    host.connection.handle(m.Credit(1, 1_000_000))
    stream.say(SpeechOutput(np.zeros(100_000, dtype=np.int16)))
    assert host.overflows == 1
    assert stream.closed


def test_flushes_that_wait_behind_speech_are_told_as_one(host):
    stream = host.open(1, "speaks")
    stream.say(SpeechOutput(np.zeros(100, dtype=np.int16)))
    for _ in range(50):
        host.say(m.Flush(1))
        stream.work()
    assert host.connection.take() == ()
    speech, flushed = host.say(m.Credit(1, 1000))
    assert isinstance(speech, m.Speech)
    assert flushed == m.Flushed(1, 50)


def test_what_a_host_did_wrong_is_counted_without_its_own_words(host):
    host.open(1)
    host.say(m.Malformed(1, 0, ProtocolError("bad")), m.Malformed(9, 0, ProtocolError("bad")))
    assert host.log.of(StreamFailed) == [
        StreamFailed(engine="hears", code="input"),
        StreamFailed(engine="unknown", code="input"),
    ]


def test_a_stream_is_named_by_its_host_and_keeps_the_trace_of_its_call(host):
    host.connection.host = "cafe0001"
    host.connection.handle(m.Open(7, "hears", 7, {}, "00-aa-bb-01"))
    origin = host.engines.opened[-1].origin
    assert (origin.name, origin.traceparent) == ("cafe0001/7", "00-aa-bb-01")
