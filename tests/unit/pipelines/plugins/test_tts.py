import asyncio

import numpy as np
import pytest
from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError, metrics, tts
from opentelemetry.sdk.trace import TracerProvider

from tests.fakes.inference_client import FakeInferenceClient
from voxray.base.errors import EngineConfigError, PeerFailedError
from voxray.pipelines.engines.base import SpeechOutput
from voxray.pipelines.plugins.tts import TTS

NOW = APIConnectOptions(max_retry=2, retry_interval=0.0, timeout=10.0)
RATE = 22_050


@pytest.fixture(autouse=True)
def _engine_rate(client: FakeInferenceClient) -> None:
    client.sample_rate = RATE


def speech(seconds: float, value: int = 1) -> SpeechOutput:
    return SpeechOutput(np.full(int(seconds * RATE), value, np.int16))


async def test_speech_comes_as_it_is_made(client: FakeInferenceClient) -> None:
    voice = TTS(voice="en-gb", rate=150)
    stream = voice.synthesize("hello there")
    engine = await client.stream()
    assert await engine.until(2) == ["hello there", "<end>"]
    assert engine.options == {"voice": "en-gb", "rate": 150}

    engine.emit(speech(0.4))
    first = await anext(stream)
    # Heard while the engine still speaks.
    assert 0 < first.frame.duration < 0.4
    engine.emit(speech(0.6, value=2))
    engine.finish()
    rest = [event async for event in stream]

    samples = np.concatenate([event.frame.data for event in [first, *rest]])
    assert len(samples) == RATE
    assert (samples[: int(0.4 * RATE)] == 1).all()
    assert (samples[int(0.4 * RATE) :] == 2).all()
    assert rest[-1].is_final
    assert (first.frame.sample_rate, first.frame.num_channels) == (RATE, 1)
    assert (voice.model, voice.provider) == ("tts-model", "fakes")
    await stream.aclose()


async def test_defaults_are_left_to_the_engine(client: FakeInferenceClient) -> None:
    async with TTS().synthesize("hello"):
        assert (await client.stream()).options == {}


async def test_a_long_text_is_handed_in_by_sentences(client: FakeInferenceClient) -> None:
    async with TTS().synthesize("This is the first sentence. And this is the second one."):
        assert await (await client.stream()).until(3) == [
            "This is the first sentence.",
            "And this is the second one.",
            "<end>",
        ]


async def test_options_change_for_what_is_said_next(client: FakeInferenceClient) -> None:
    voice = TTS(rate=150)
    async with voice.synthesize("one"):
        voice.update_options(voice="de", rate=None)
        async with voice.synthesize("two"):
            assert (await client.stream(0)).options == {"rate": 150}
            assert (await client.stream(1)).options == {"voice": "de"}


async def test_another_rate_is_resampled(client: FakeInferenceClient) -> None:
    stream = TTS(sample_rate=44_100).synthesize("hello")
    engine = await client.stream()
    engine.emit(speech(1.0))
    engine.finish()
    frame = await stream.collect()

    assert frame.sample_rate == 44_100
    assert frame.duration == pytest.approx(1.0, abs=0.01)
    await stream.aclose()


async def test_metrics_tell_of_the_first_byte(client: FakeInferenceClient) -> None:
    voice = TTS()
    seen: list[metrics.TTSMetrics] = []
    voice.on("metrics_collected", seen.append)
    stream = voice.synthesize("hello")
    engine = await client.stream()
    engine.emit(speech(0.5))
    engine.finish()
    await stream.collect()
    await stream.aclose()

    assert seen[0].ttfb >= 0
    assert seen[0].audio_duration == pytest.approx(0.5)
    assert seen[0].characters_count == 5


async def test_an_unknown_voice_fails_at_once(client: FakeInferenceClient) -> None:
    client.refusals = [EngineConfigError("espeak: no voice is called 'klingon'")]
    voice = TTS(voice="klingon")
    errors: list[tts.TTSError] = []
    voice.on("error", errors.append)
    stream = voice.synthesize("hello", conn_options=NOW)

    with pytest.raises(APIStatusError, match="klingon"):
        await stream.collect()
    assert [error.recoverable for error in errors] == [False]
    assert len(client.opened) == 1
    await stream.aclose()


async def test_a_lost_replica_is_replaced(client: FakeInferenceClient) -> None:
    stream = TTS().synthesize("hello", conn_options=NOW)
    (await client.stream()).fail(PeerFailedError("replica speech-0 broke"))
    second = await client.stream(1)
    second.emit(speech(0.5))
    second.finish()

    assert (await stream.collect()).duration == pytest.approx(0.5)
    await stream.aclose()


async def test_it_gives_up_after_its_retries(client: FakeInferenceClient) -> None:
    client.refusals = [PeerFailedError("no replica")] * 9
    stream = TTS().synthesize("hello", conn_options=NOW)

    with pytest.raises(APIConnectionError, match="no replica"):
        await stream.collect()
    assert len(client.opened) == 3
    await stream.aclose()


async def test_an_engine_that_says_nothing_is_a_failure(client: FakeInferenceClient) -> None:
    stream = TTS().synthesize("hello", conn_options=APIConnectOptions(max_retry=0))
    (await client.stream()).finish()

    with pytest.raises(Exception, match="no audio frames"):
        await stream.collect()
    await stream.aclose()


async def test_a_text_without_words_is_silence(client: FakeInferenceClient) -> None:
    stream = TTS().synthesize(" ... ")
    (await client.stream()).finish()

    assert not np.any((await stream.collect()).data)
    await stream.aclose()


async def test_an_interrupted_speech_is_abandoned(client: FakeInferenceClient) -> None:
    stream = TTS().synthesize("hello")
    engine = await client.stream()
    engine.emit(speech(0.4))
    await anext(stream)
    await stream.aclose()

    assert engine.closed


async def test_the_plugin_ends_its_streams(client: FakeInferenceClient) -> None:
    voice = TTS()
    stream = voice.synthesize("hello")
    engine = await client.stream()
    await voice.aclose()

    assert engine.closed
    assert stream.done


async def test_the_trace_of_the_call_goes_along(client: FakeInferenceClient) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("turn") as span:
        stream = TTS().synthesize("hello")
        engine = await client.stream()

    assert f"{span.get_span_context().trace_id:032x}" in engine.traceparent
    await stream.aclose()


async def test_without_a_trace_nothing_goes_along(client: FakeInferenceClient) -> None:
    stream = TTS().synthesize("hello")
    assert (await client.stream()).traceparent == ""
    await stream.aclose()
    await asyncio.sleep(0)
