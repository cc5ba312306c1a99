import asyncio
import logging

import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIStatusError, metrics, vad

from tests.fakes.inference_client import FakeInferenceClient, FakeStream
from voxray.base.errors import EngineConfigError, PeerFailedError
from voxray.pipelines.engines.base import ProbabilityOutput
from voxray.pipelines.plugins import vad as plugin
from voxray.pipelines.plugins import vad_audio, vad_places
from voxray.pipelines.plugins.vad import VAD

WINDOW = 512


def audio(windows: int = 1, rate: int = 16_000) -> rtc.AudioFrame:
    count = windows * WINDOW * rate // 16_000
    return rtc.AudioFrame(
        data=bytes(2 * count), sample_rate=rate, num_channels=1, samples_per_channel=count
    )


def say(stream: FakeStream, probabilities: list[float]) -> None:
    for index, probability in enumerate(probabilities, start=1):
        stream.emit(ProbabilityOutput(index * WINDOW, probability, 0.0))


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_BACKOFF", plugin.Backoff(first_s=1e-6, limit_s=1e-6))


async def collect(stream: vad.VADStream) -> list[vad.VADEventType]:
    return [event.type async for event in stream if event.type != "inference_done"]


async def test_speech_is_found_and_the_engine_sees_the_audio(client: FakeInferenceClient) -> None:
    voice = VAD(min_silence_duration=0.06)
    stream = voice.stream()
    stream.push_frame(audio(6, rate=48_000))
    stream.end_input()
    engine = await client.stream()
    assert await engine.until(2) == [(bytes(2 * 6 * WINDOW * 3), 48_000), "<end>"]
    say(engine, [0.1, 0.9, 0.9, 0.9, 0.0, 0.0])
    engine.finish()

    assert await collect(stream) == ["start_of_speech", "end_of_speech"]
    assert (voice.model, voice.provider) == ("vad-model", "fakes")
    await stream.aclose()


async def test_a_flush_tells_the_rest_and_starts_afresh(client: FakeInferenceClient) -> None:
    stream = VAD().stream()
    stream.push_frame(audio(3))
    stream.flush()
    stream.push_frame(audio(1))
    stream.end_input()
    first = await client.stream()
    await first.until(2)
    say(first, [0.9, 0.9, 0.9])
    first.finish()
    second = await client.stream(1)
    await second.until(2)
    say(second, [0.0])
    second.finish()

    events = [event async for event in stream]
    # The speech before the flush is told, has no end, and leaves nothing behind.
    assert [event.type for event in events].count(vad.VADEventType.START_OF_SPEECH) == 1
    assert (events[-1].speaking, events[-1].timestamp) == (False, 0.032)
    assert first.inputs[-1] == second.inputs[-1] == "<end>"
    await stream.aclose()


async def test_no_engine_fails_the_stream_at_once(
    client: FakeInferenceClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.refusals = [EngineConfigError("no engine is called 'vad'")]
    stream = VAD().stream()
    stream.push_frame(audio())

    with pytest.raises(APIStatusError, match="no engine is called"):
        await collect(stream)
    assert client.opened == ["vad"]
    await stream.aclose()


@pytest.mark.usefixtures("_soon")
async def test_a_lost_stream_is_replaced(
    client: FakeInferenceClient, caplog: pytest.LogCaptureFixture
) -> None:
    stream = VAD(min_silence_duration=0.06).stream()
    stream.push_frame(audio(3))
    first = await client.stream()
    await first.until(1)
    say(first, [0.9, 0.9, 0.9])
    with caplog.at_level(logging.WARNING):
        first.fail(PeerFailedError("replica speech-0 broke"))
        second = await client.stream(1)
    stream.push_frame(audio(2))
    stream.end_input()
    await second.until(2)
    say(second, [0.0, 0.0])
    second.finish()

    assert await collect(stream) == ["start_of_speech", "end_of_speech"]
    assert first.terms.moves is False
    assert [record.message for record in caplog.records] == ["VAD stream was lost, opening another"]
    assert first.closed
    await stream.aclose()


@pytest.mark.usefixtures("_soon")
async def test_it_gives_up_after_several_attempts(client: FakeInferenceClient) -> None:
    client.refusals = [PeerFailedError("no replica")] * 10
    stream = VAD().stream()
    stream.push_frame(audio())

    with pytest.raises(APIConnectionError, match="no replica"):
        await collect(stream)
    assert len(client.opened) == 4
    await stream.aclose()


async def test_closing_amid_speech_ends_everything(client: FakeInferenceClient) -> None:
    stream = VAD().stream()
    stream.push_frame(audio(3))
    engine = await client.stream()
    await engine.until(1)
    await stream.aclose()

    assert engine.closed
    with pytest.raises(RuntimeError, match="input ended"):
        stream.push_frame(audio())


async def test_a_stream_that_was_never_used_opens_nothing(client: FakeInferenceClient) -> None:
    stream = VAD().stream()
    stream.end_input()

    assert await collect(stream) == []
    assert client.opened == []
    await stream.aclose()


async def test_options_of_open_streams_change(client: FakeInferenceClient) -> None:
    voice = VAD(activation_threshold=0.9)
    stream = voice.stream()
    stream.push_frame(audio(4))
    engine = await client.stream()
    await engine.until(1)
    voice.update_options(activation_threshold=0.5, min_silence_duration=0.4)
    say(engine, [0.6, 0.6])

    assert [(await anext(stream)).type for _ in range(3)][-1] == "start_of_speech"
    assert voice.min_silence_duration == 0.4
    with pytest.raises(ValueError, match="deactivation_threshold"):
        voice.update_options(deactivation_threshold=0.0)
    await stream.aclose()


async def test_a_frame_of_another_rate_is_left_out(
    client: FakeInferenceClient, caplog: pytest.LogCaptureFixture
) -> None:
    stream = VAD().stream()
    stream.push_frame(audio(1))
    stream.push_frame(audio(1, rate=48_000))
    stream.end_input()
    engine = await client.stream()

    assert [item[1] for item in (await engine.until(2))[:-1]] == [16_000]
    assert "another sample rate" in caplog.text
    await stream.aclose()


async def test_metrics_name_the_model(client: FakeInferenceClient) -> None:
    voice = VAD()
    seen: list[metrics.VADMetrics] = []
    voice.on("metrics_collected", seen.append)
    stream = voice.stream()
    stream.push_frame(audio(40))
    stream.end_input()
    engine = await client.stream()
    await engine.until(2)
    say(engine, [0.0] * 40)
    engine.finish()
    await collect(stream)
    await stream.aclose()

    assert seen[0].inference_count == 32
    assert seen[0].metadata is not None
    assert seen[0].metadata.model_name == "vad-model"


async def test_load_takes_the_options_of_the_constructor() -> None:
    assert VAD.load(min_silence_duration=0.7).min_silence_duration == 0.7
    with pytest.raises(TypeError):
        VAD.load(nonsense=1)


async def test_many_calls_share_the_plugin(client: FakeInferenceClient) -> None:
    voice = VAD()
    streams = [voice.stream() for _ in range(3)]
    for stream in streams:
        stream.push_frame(audio(2))
        stream.end_input()
    for index in range(3):
        engine = await client.stream(index)
        await engine.until(2)
        say(engine, [0.9, 0.9] if index == 1 else [0.0, 0.0])
        engine.finish()

    told = await asyncio.gather(*map(collect, streams))
    assert sorted(map(len, told)) == [0, 0, 1]
    for stream in streams:
        await stream.aclose()


async def test_a_segment_that_is_lost_at_its_end_is_told_to_its_end(
    client: FakeInferenceClient,
) -> None:
    stream = VAD().stream()
    stream.push_frame(audio(2))
    stream.flush()
    stream.push_frame(audio(1))
    stream.end_input()
    first = await client.stream()
    await first.until(2)
    say(first, [0.0])
    first.fail(PeerFailedError("replica speech-0 broke"))
    again = await client.stream(1)
    # The second window went to the lost replica and was not judged.
    assert await again.until(2) == [(bytes(2 * WINDOW), 16_000), "<end>"]
    say(again, [0.0])
    again.finish()
    second = await client.stream(2)
    await second.until(2)
    say(second, [0.0])
    second.finish()

    # The third stream is the next segment's: its time begins anew.
    assert [event.timestamp async for event in stream] == [0.032, 0.064, 0.032]
    await stream.aclose()


@pytest.mark.usefixtures("_soon")
async def test_failures_count_only_in_a_row(client: FakeInferenceClient) -> None:
    stream = VAD().stream()
    stream.push_frame(audio(1))
    for index in range(8):
        engine = await client.stream(index)
        say(engine, [0.0])
        engine.fail(PeerFailedError("replica speech-0 broke"))
    last = await client.stream(8)
    stream.end_input()
    last.finish()

    assert await collect(stream) == []
    await stream.aclose()


def silence(stream: FakeStream, windows: int, *, after: int = 0) -> None:
    for index in range(after + 1, after + windows + 1):
        stream.emit(ProbabilityOutput(index * WINDOW, 0.0, 0.0))


@pytest.fixture
def _back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad_places, "_RETURN", vad_places.Backoff(first_s=1e-6, limit_s=1e-6))


@pytest.mark.usefixtures("_back_soon")
async def test_it_goes_on_in_the_process_and_returns_to_a_replica_between_words(
    client: FakeInferenceClient, local: FakeInferenceClient
) -> None:
    local.refuses = None
    stream = VAD(min_silence_duration=0.06).stream()
    stream.push_frame(audio(20))
    lost = await client.stream()
    await lost.until(1)
    # Fifteen windows of silence, then speech begins; two more windows are not judged.
    say(lost, [0.0] * 15 + [0.9] * 3)
    told = [(await anext(stream)).type for _ in range(19)]
    client.refuses = PeerFailedError("no replica is left")
    lost.fail(PeerFailedError("replica speech-0 broke"))

    here = await local.stream()
    again = await here.until(1)
    context = int(vad_audio.CONTEXT_S * 16_000)
    assert again == [(bytes(2 * (context + 2 * WINDOW)), 16_000)]
    # What was judged already is judged no second time; the speech goes on.
    silence(here, 15)
    here.emit(ProbabilityOutput(context + WINDOW, 0.9, 0.0))
    client.refuses = None
    returned = await client.stream(1)
    stream.push_frame(audio(1))
    assert len(await here.until(2)) == 2  # Not amid the speech.
    for index in range(2, 4):
        here.emit(ProbabilityOutput(context + index * WINDOW, 0.0, 0.0))
    while (ended := await anext(stream)).type != "end_of_speech":
        pass
    stream.push_frame(audio(1))
    stream.push_frame(audio(1))
    assert (await here.until(4))[3] == "<end>"
    here.finish()
    # The frame that the process was not asked to judge any more.
    assert (await returned.until(1))[0] == (bytes(2 * (context + WINDOW)), 16_000)
    stream.end_input()
    await returned.until(3)
    returned.finish()
    await collect(stream)

    assert told.count(vad.VADEventType.START_OF_SPEECH) == 1
    assert ended.timestamp == pytest.approx(21 * 0.032)
    await stream.aclose()


async def test_a_vad_of_the_host_asks_no_replica(
    client: FakeInferenceClient, local: FakeInferenceClient
) -> None:
    local.refuses = None
    voice = VAD(placement="host")
    stream = voice.stream()
    stream.push_frame(audio(1))
    here = await local.stream()
    await here.until(1)
    assert client.opened == []
    await voice.aclose()
    assert here.closed
    with pytest.raises(ValueError, match="replica or host"):
        VAD(placement="moon")


async def test_a_replica_that_hangs_is_left(
    client: FakeInferenceClient, local: FakeInferenceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.refuses = None
    now = 100.0
    monkeypatch.setattr(plugin.SystemClock, "monotonic", lambda _: now)
    stream = VAD().stream()
    stream.push_frame(audio(2))
    hung = await client.stream()
    await hung.until(1)
    now += 1.5
    client.refuses = PeerFailedError("no replica is left")
    stream.push_frame(audio(1))
    here = await local.stream()
    # All of it was heard by nobody.
    assert await here.until(1) == [(bytes(2 * 3 * WINDOW), 16_000)]
    say(here, [0.0] * 3)
    # This process is not left for being slow.
    now += 60.0
    stream.push_frame(audio(1))
    stream.end_input()
    assert (await here.until(3))[-1] == "<end>"
    here.finish()
    assert [event.timestamp async for event in stream] == pytest.approx([0.032, 0.064, 0.096])
    await stream.aclose()
