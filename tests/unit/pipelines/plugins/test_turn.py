import asyncio
import logging

import pytest
from livekit import rtc
from livekit.agents import inference
from livekit.agents.language import LanguageCode
from livekit.agents.voice import turn as protocol

from tests.fakes.inference_client import FakeInferenceClient
from voxray.base.errors import EngineConfigError, PeerFailedError
from voxray.pipelines.engines.base import TurnOutput
from voxray.pipelines.plugins import turn_stream
from voxray.pipelines.plugins.turn import TurnDetector


def audio(seconds: float = 0.02, rate: int = 24_000) -> rtc.AudioFrame:
    count = round(seconds * rate)
    return rtc.AudioFrame(
        data=bytes(2 * count), sample_rate=rate, num_channels=1, samples_per_channel=count
    )


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_stream, "_BACKOFF", turn_stream.Backoff(first_s=1e-6, limit_s=1e-6))


async def test_it_is_what_livekit_agents_takes_for_a_turn_detector(
    client: FakeInferenceClient,
) -> None:
    detector = TurnDetector()
    assert isinstance(detector, protocol._StreamingTurnDetector)
    assert isinstance(detector, inference.TurnDetector)
    stream = detector.stream()
    assert isinstance(stream, protocol._StreamingTurnDetectorStream)
    assert (stream.model, stream.provider) == ("turn-detector-v1-mini", "livekit")
    assert not stream.is_fallback
    assert detector.describe_options()["engine"] == "turn"
    await stream.aclose()


async def test_a_question_is_answered_and_measured(client: FakeInferenceClient) -> None:
    detector = TurnDetector()
    measured = []
    detector.on("metrics_collected", measured.append)
    stream = detector.stream()
    engine = await client.stream()
    stream.push_audio(audio())
    answer = stream.predict()
    assert await engine.until(2) == [(bytes(960), 24_000), "<flush>"]
    engine.emit(TurnOutput(0.75, 0.02, 0.005))

    event = await answer
    assert (event.end_of_turn_probability, event.inference_duration) == (0.75, 0.005)
    assert event.detection_delay is not None
    assert [each.prediction_duration for each in measured] == [0.005]
    await stream.aclose()


async def test_what_was_heard_before_the_engine_was_there_is_told_and_asked_then(
    client: FakeInferenceClient,
) -> None:
    stream = TurnDetector().stream()
    for _ in range(20):
        stream.push_audio(audio(0.1))
    answer = stream.predict()
    engine = await client.stream()
    inputs = await engine.until(13)
    # What the model hears at once, and no more.
    assert inputs == [(bytes(4800), 24_000)] * 12 + ["<flush>"]
    engine.emit(TurnOutput(0.5, 1.2, 0.01))
    assert (await answer).end_of_turn_probability == 0.5
    await stream.aclose()


async def test_a_question_that_was_withdrawn_does_not_answer_the_next_one(
    client: FakeInferenceClient,
) -> None:
    stream = TurnDetector().stream()
    engine = await client.stream()
    first = stream.predict()
    stream.cancel_inference()
    assert (await first).end_of_turn_probability == 0.0
    second = stream.predict()
    await engine.until(2)
    engine.emit(TurnOutput(0.1, 1.0, 0.01), TurnOutput(0.9, 2.0, 0.01))
    assert (await second).end_of_turn_probability == 0.9
    await stream.aclose()


async def test_the_end_of_a_turn_forgets_it(client: FakeInferenceClient) -> None:
    stream = TurnDetector().stream()
    engine = await client.stream()
    answer = stream.predict()
    stream.flush(reason="turn committed")
    assert (await answer).end_of_turn_probability == 0.0
    assert await engine.until(2) == ["<flush>", "<discard>"]
    await stream.aclose()
    assert (await stream.predict()).end_of_turn_probability == 1.0


@pytest.mark.usefixtures("_soon")
async def test_a_lost_engine_ends_the_turn_and_is_replaced(
    client: FakeInferenceClient, caplog: pytest.LogCaptureFixture
) -> None:
    stream = TurnDetector().stream()
    first = await client.stream()
    answer = stream.predict()
    with caplog.at_level(logging.WARNING):
        first.fail(PeerFailedError("replica ears-0 broke"))
        assert (await answer).end_of_turn_probability == 1.0
        second = await client.stream(1)
    assert [record.message for record in caplog.records] == [
        "turn detector was lost, opening another"
    ]
    again = stream.predict()
    stream.push_audio(audio())
    await second.until(2)
    second.emit(TurnOutput(0.25, 0.0, 0.01))
    assert (await again).end_of_turn_probability == 0.25
    await stream.aclose()


async def test_no_engine_turns_the_detection_off_once(
    client: FakeInferenceClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.refusals = [EngineConfigError("no engine 'turn' in this replica")]
    with caplog.at_level(logging.ERROR):
        stream = TurnDetector().stream()
        assert (await stream.predict()).end_of_turn_probability == 1.0
    stream.push_audio(audio())
    assert (await stream.predict()).end_of_turn_probability == 1.0
    assert client.opened == ["turn"]
    assert [record.message for record in caplog.records] == [
        "turn detection is off: turns end after the session's endpointing delay"
    ]
    await stream.aclose()


async def test_thresholds_are_the_models_or_the_programs(client: FakeInferenceClient) -> None:
    stream = TurnDetector().stream()
    stock = inference.TurnDetector(version="v1-mini")
    for language in ("en", "de", "xx"):
        code = LanguageCode(language)
        assert await stream.unlikely_threshold(code) == await stock.unlikely_threshold(code)
    assert await stream.backchannel_threshold(None) is None
    assert await stream.supports_language(LanguageCode("de"))
    own = TurnDetector(unlikely_threshold=0.7).stream()
    assert await own.unlikely_threshold(LanguageCode("de")) == 0.7
    await asyncio.gather(stream.aclose(), own.aclose())
