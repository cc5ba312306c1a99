"""What one stream sends, keeps and says, over the connections it is given."""

import asyncio

import numpy as np
import pytest

from tests.fakes.connection import FakeConnection
from voxray.base.errors import (
    EngineError,
    PeerFailedError,
    StreamClosedError,
    StreamEndedError,
    StreamFinishedError,
)
from voxray.observability.events import NullSink
from voxray.pipelines.audio_source import AudioSource
from voxray.pipelines.engines.base import (
    EngineInfo,
    EngineKind,
    ProbabilityOutput,
    SpeechEdgeOutput,
    TranscriptOutput,
)
from voxray.pipelines.failover import STALE
from voxray.pipelines.remote_stream import CREDIT_BYTES, RemoteStream
from voxray.pipelines.wire import messages as m

RATE = 16_000
SECOND = bytes(2 * RATE)


class Streaming:
    """A stream, what its client hears of it, and the connection that it is on."""

    def __init__(self, kind, source=None) -> None:
        self.info = EngineInfo(name="engine", kind=kind, model="m", provider="p", sample_rate=RATE)
        self.failures, self.ends = [], 0
        self.source = source or AudioSource(NullSink())
        self.stream = RemoteStream(
            1,
            m.Open(0, kind.value, 0, {}, ""),
            self.source,
            on_failure=lambda _, failure: self.failures.append(failure),
            on_end=self._ended,
        )
        self.move()

    def _ended(self, _stream) -> None:
        self.ends += 1

    def move(self) -> None:
        self.stream.detach()
        self.connection = FakeConnection()
        self.stream.attach(self.connection, self.info)
        self.stream.opened(self.info)

    def sent_audio_s(self) -> float:
        """Seconds of audio that go up now; all of it is acknowledged at once."""
        seconds = 0.0
        while audio := self.connection.sent(m.Audio):
            for message in audio:
                seconds += len(message.pcm) / 2 / message.rate
                acknowledged = m.Acknowledged(message.source, message.sequence, 2**20)
                lane = self.connection.uplink.acknowledge(acknowledged)
                self.stream.taken_in(lane.taken)
        return seconds

    def final(self, start_s, end_s) -> None:
        output = TranscriptOutput(text="t", final=True, start_s=start_s, end_s=end_s)
        self.stream.result(m.Result(1, output))


@pytest.fixture
async def stt():
    return Streaming(EngineKind.STT)


@pytest.fixture
async def tts():
    return Streaming(EngineKind.TTS)


async def test_a_recogniser_is_given_again_what_came_after_its_last_final(stt):
    for _ in range(5):
        stt.stream.push_audio(SECOND, RATE)
    assert stt.sent_audio_s() == 5.0
    stt.final(0.0, 3.0)
    stt.move()
    assert stt.sent_audio_s() == 2.0
    assert stt.stream.replayed_s == 2.0
    stt.final(0.5, 1.5)
    first, second = await stt.stream.receive(), await stt.stream.receive()
    assert (first.start_s, first.end_s) == (0.0, 3.0)
    assert (second.start_s, second.end_s) == (3.5, 4.5)


async def test_an_interim_result_settles_nothing(stt):
    stt.stream.push_audio(SECOND, RATE)
    stt.sent_audio_s()
    stt.stream.result(m.Result(1, TranscriptOutput("t", final=False, start_s=0.0, end_s=1.0)))
    stt.move()
    assert stt.sent_audio_s() == 1.0


async def test_a_worked_flush_settles_what_came_before_it_also_without_a_final(stt):
    stt.stream.push_audio(SECOND, RATE)
    stt.stream.flush()
    stt.stream.push_audio(SECOND, RATE)
    stt.sent_audio_s()
    stt.stream.flushed(1)
    stt.move()
    assert stt.sent_audio_s() == 1.0


async def test_a_flush_that_was_not_worked_through_is_said_again(stt):
    stt.stream.push_audio(SECOND, RATE)
    stt.stream.flush()
    stt.stream.end_input()
    stt.sent_audio_s()
    stt.final(0.0, 1.0)
    stt.move()
    assert stt.connection.sent()[1:] == [m.Flush(1), m.EndInput(1)]


async def test_a_detector_is_given_again_only_what_was_not_taken_in():
    vad = Streaming(EngineKind.VAD)
    vad.stream.push_audio(SECOND, RATE)
    vad.sent_audio_s()
    vad.stream.push_audio(SECOND, RATE)
    vad.move()
    assert vad.sent_audio_s() == 1.0
    vad.stream.result(m.Result(1, ProbabilityOutput(512, 0.5, 0.0)))
    assert (await vad.stream.receive()).end_sample == RATE + 512


async def test_audio_that_comes_between_two_replicas_is_kept(stt):
    stt.stream.push_audio(SECOND, RATE)
    stt.stream.detach()
    stt.stream.push_audio(SECOND, RATE)
    stt.move()
    assert stt.sent_audio_s() == 2.0


async def test_times_count_from_the_opening_of_the_stream_not_of_its_source():
    early = Streaming(EngineKind.VAD)
    early.stream.push_audio(SECOND, RATE)
    early.sent_audio_s()
    late = Streaming(EngineKind.STT, source=early.source)
    late.stream.push_audio(SECOND, RATE)
    assert late.sent_audio_s() == 1.0
    late.final(0.0, 1.0)
    assert (await late.stream.receive()).end_s == 1.0


def speech(first, last):
    return m.Speech(1, first, RATE, np.arange(first, last, dtype="<i2").tobytes())


async def test_a_speaker_is_given_the_unsaid_text_again_and_skips_what_was_heard(tts):
    tts.stream.push_text("said")
    tts.stream.flush()
    tts.connection.sent()
    tts.stream.speech(speech(0, 100))
    tts.stream.flushed(1)
    tts.stream.push_text("half said")
    tts.connection.sent()
    tts.stream.speech(speech(100, 150))
    tts.move()
    assert tts.connection.sent(m.Text) == [m.Text(1, "half said")]
    tts.stream.speech(speech(0, 80))
    heard = [len((await tts.stream.receive()).samples) for _ in range(3)]
    assert heard == [100, 50, 30]


async def test_credit_is_given_at_the_opening_and_as_speech_is_received(tts):
    assert tts.connection.granted == CREDIT_BYTES
    for part in range(4):
        tts.stream.speech(m.Speech(1, part * 32_768, RATE, bytes(65_536)))
    assert tts.connection.granted == CREDIT_BYTES
    for _ in range(4):
        await tts.stream.receive()
    assert tts.connection.granted == 2 * CREDIT_BYTES


async def test_long_text_goes_up_in_parts(tts):
    tts.stream.push_text("ü" * 40_000)
    texts = [message.text for message in tts.connection.sent(m.Text)]
    assert "".join(texts) == "ü" * 40_000
    assert max(len(text.encode()) for text in texts) <= m.MAX_TEXT_BYTES


async def test_a_failure_that_another_replica_may_mend_goes_to_the_client(stt):
    failure = m.Failed(1, "overloaded", "busy", retryable=True)
    stt.stream.over(failure)
    assert stt.failures == [failure]
    assert not stt.stream.ended


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (None, StreamFinishedError),
        (m.Failed(1, "engine", "broken", retryable=False), EngineError),
        (m.Failed(1, "overloaded", "nobody listens", retryable=False), PeerFailedError),
    ],
)
async def test_every_other_end_is_received_after_the_results(stt, failure, error):
    stt.final(0.0, 0.0)
    stt.stream.over(failure)
    await stt.stream.receive()
    for _ in range(2):
        with pytest.raises(error):
            await stt.stream.receive()
    assert stt.ends == 1
    with pytest.raises(StreamEndedError):
        stt.stream.flush()


async def test_an_answer_that_does_not_come_leaves_the_replica(stt):
    stt.stream.detach()
    connection = FakeConnection()
    stt.stream.attach(connection, stt.info)
    failure = await stt.stream.answer(0.001)
    assert failure.retryable
    assert connection.sent(m.Close) == [m.Close(1)]


async def test_a_refusal_is_the_answer(stt):
    stt.stream.detach()
    stt.stream.attach(FakeConnection(), stt.info)
    refusal = m.Failed(1, "limit", "full", retryable=True)
    stt.stream.over(refusal)
    assert await stt.stream.answer(5.0) == refusal
    assert stt.failures == []


async def test_closing_wakes_the_reader_and_forgets_the_input(stt):
    stt.stream.push_audio(SECOND, RATE)
    reader = asyncio.create_task(stt.stream.receive())
    await asyncio.sleep(0)
    await stt.stream.aclose()
    await stt.stream.aclose()
    with pytest.raises(StreamClosedError):
        await reader
    assert stt.ends == 1
    assert stt.source.log.first == stt.source.log.next
    assert [type(message) for message in stt.connection.sent()][-2:] == [m.Close, m.CloseSource]


# Moving while the old replica still serves.


def ask(one):
    """Open the stream on another replica as well; it has not answered yet."""
    asked = FakeConnection()
    one.stream.attach(asked, one.info)
    return asked


async def test_a_moving_stream_is_served_by_the_old_replica_until_the_new_one_has_it(stt):
    stt.stream.push_audio(SECOND, RATE)
    stt.sent_audio_s()
    asked = ask(stt)
    stt.connection.handler.result(m.Result(1, TranscriptOutput("old", False, 0.0, 0.5)))
    asked.handler.opened(stt.info)
    assert await stt.stream.answer(5.0) is None
    # What the old one still says is not heard; the new one was given all that is not settled.
    stt.connection.handler.result(m.Result(1, TranscriptOutput("late", True, 0.0, 1.0)))
    asked.handler.result(m.Result(1, TranscriptOutput("new", True, 0.0, 1.0)))
    assert [(await stt.stream.receive()).text for _ in range(2)] == ["old", "new"]
    assert stt.stream.replayed_s == 1.0
    assert m.Close(1) in stt.connection.sent()
    assert not stt.failures


async def test_a_move_that_was_overtaken_by_a_final_is_begun_again(stt):
    stt.stream.push_audio(SECOND, RATE)
    stt.stream.push_audio(SECOND, RATE)
    stt.sent_audio_s()
    asked = ask(stt)
    stt.connection.handler.result(m.Result(1, TranscriptOutput("one", True, 0.0, 1.0)))
    asked.handler.opened(stt.info)
    assert (await stt.stream.answer(5.0)).code == STALE
    assert stt.stream.current.connection is stt.connection
    again = ask(stt)
    assert again.starts == [2]
    again.handler.opened(stt.info)
    assert await stt.stream.answer(5.0) is None
    again.handler.result(m.Result(1, TranscriptOutput("two", True, 0.0, 1.0)))
    finals = [await stt.stream.receive() for _ in range(2)]
    assert [(final.text, final.end_s) for final in finals] == [("one", 1.0), ("two", 2.0)]


async def test_a_refused_move_leaves_the_stream_where_it_is(stt):
    asked = ask(stt)
    refusal = m.Failed(1, "limit", "full", retryable=True)
    asked.handler.over(refusal)
    assert await stt.stream.answer(5.0) == refusal
    stt.connection.handler.result(m.Result(1, TranscriptOutput("old", True, 0.0, 0.0)))
    assert (await stt.stream.receive()).text == "old"


async def test_the_loss_of_the_old_replica_hastens_the_move(stt):
    stt.stream.push_audio(SECOND, RATE)
    asked = ask(stt)
    stt.connection.handler.over(m.Failed(1, "lost", "it broke", retryable=True))
    assert len(stt.failures) == 1
    asked.handler.result(m.Result(1, TranscriptOutput("new", True, 0.0, 1.0)))
    asked.handler.opened(stt.info)
    assert await stt.stream.answer(5.0) is None
    assert (await stt.stream.receive()).text == "new"


async def test_a_moving_speaker_goes_on_at_the_sample(tts):
    tts.stream.push_text("words")
    tts.stream.speech(speech(0, 100))
    asked = ask(tts)
    tts.connection.handler.speech(speech(100, 150))
    asked.handler.opened(tts.info)
    asked.handler.speech(speech(0, 200))
    assert [len((await tts.stream.receive()).samples) for _ in range(3)] == [100, 50, 50]


async def test_a_moving_detector_tells_no_window_twice():
    vad = Streaming(EngineKind.VAD)
    for _ in range(3):
        vad.stream.push_audio(SECOND, RATE)
    asked = ask(vad)
    vad.connection.handler.result(m.Result(1, ProbabilityOutput(512, 0.1, 0.0)))
    vad.connection.handler.result(m.Result(1, ProbabilityOutput(1024, 0.2, 0.0)))
    vad.sent_audio_s()
    asked.handler.opened(vad.info)
    for end in (512, 1024, 1536):
        asked.handler.result(m.Result(1, ProbabilityOutput(end, 0.9, 0.0)))
    heard = [await vad.stream.receive() for _ in range(3)]
    assert [(each.end_sample, each.probability) for each in heard] == [
        (512, 0.1),
        (1024, 0.2),
        (1536, 0.9),
    ]


async def test_an_end_of_speech_that_the_lost_replica_owed_is_told(stt):
    stt.stream.result(m.Result(1, SpeechEdgeOutput(speaking=True, at_s=0.2)))
    stt.final(0.2, 0.8)
    stt.move()
    edges = [await stt.stream.receive() for _ in range(3)]
    assert edges[2] == SpeechEdgeOutput(speaking=False, at_s=0.8)
    stt.move()
    await stt.stream.aclose()
