import asyncio
from pathlib import Path

import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError, metrics, stt
from livekit.agents.utils.audio import AudioBuffer

from tests.fakes.inference_client import FakeInferenceClient
from voxray.base.errors import (
    CapacityError,
    EngineConfigError,
    EngineError,
    PeerFailedError,
    StreamGivenUpError,
)
from voxray.pipelines.engines.base import TranscriptOutput
from voxray.pipelines.plugins.stt import STT

NOW = APIConnectOptions(max_retry=2, retry_interval=0.0, timeout=10.0)


def audio(seconds: float = 0.1, rate: int = 24_000, channels: int = 1) -> rtc.AudioFrame:
    count = int(seconds * rate)
    return rtc.AudioFrame(
        data=bytes(2 * count * channels),
        sample_rate=rate,
        num_channels=channels,
        samples_per_channel=count,
    )


def final(text: str, start_s: float = 0.0, end_s: float = 1.0) -> TranscriptOutput:
    return TranscriptOutput(text=text, final=True, start_s=start_s, end_s=end_s)


def interim(text: str) -> TranscriptOutput:
    return TranscriptOutput(text=text, final=False, start_s=0.0, end_s=0.5)


async def finals(stream: stt.RecognizeStream) -> list[stt.SpeechData]:
    return [event.alternatives[0] async for event in stream if event.type == "final_transcript"]


async def test_audio_goes_up_and_transcripts_come_back(client: FakeInferenceClient) -> None:
    recognizer = STT(grammar="#JSGF V1.0; grammar g; public <g> = yes;")
    stream = recognizer.stream()
    stream.push_frame(audio())
    stream.flush()
    stream.push_frame(audio())
    stream.end_input()
    engine = await client.stream()
    frame = (bytes(4800), 24_000)
    assert await engine.until(4) == [frame, "<flush>", frame, "<end>"]
    assert engine.options == {
        "grammar": "#JSGF V1.0; grammar g; public <g> = yes;",
        "language": "en",
        "interim_results": True,
    }
    engine.emit(interim("ye"), final("yes"))
    engine.finish()

    assert [event.type async for event in stream] == [
        "start_of_speech",
        "interim_transcript",
        "final_transcript",
        "end_of_speech",
        "recognition_usage",
    ]
    assert (recognizer.model, recognizer.provider) == ("stt-model", "fakes")
    await stream.aclose()


async def test_several_channels_are_mixed(client: FakeInferenceClient) -> None:
    stream = STT().stream()
    stream.push_frame(audio(channels=2))
    engine = await client.stream()

    assert await engine.until(1) == [(bytes(4800), 24_000)]
    await stream.aclose()


async def test_the_capabilities_are_what_the_session_plans_by() -> None:
    capabilities = STT(interim_results=False).capabilities
    assert capabilities.streaming
    assert not capabilities.interim_results
    assert capabilities.manual_flush
    assert capabilities.offline_recognize


async def test_a_grammar_is_text_or_a_file(client: FakeInferenceClient, tmp_path: Path) -> None:
    path = tmp_path / "speech.jsgf"
    path.write_text("grammar in a file", encoding="utf-8")
    stream = STT(grammar=path).stream(language="de")
    stream.push_frame(audio())
    options = (await client.stream()).options
    await stream.aclose()

    assert (options["grammar"], options["language"]) == ("grammar in a file", "de")
    with pytest.raises(EngineConfigError, match=r"missing\.jsgf can't be read"):
        STT(grammar=tmp_path / "missing.jsgf")


async def test_a_wrong_grammar_fails_at_once(client: FakeInferenceClient) -> None:
    client.refusals = [EngineConfigError("pocketsphinx: the grammar is wrong in line 3")]
    recognizer = STT(grammar="nonsense")
    errors: list[stt.STTError] = []
    recognizer.on("error", errors.append)
    stream = recognizer.stream(conn_options=NOW)

    with pytest.raises(APIStatusError, match="line 3") as caught:
        await finals(stream)
    assert not caught.value.retryable
    assert [error.recoverable for error in errors] == [False]
    assert len(client.opened) == 1
    await stream.aclose()


async def test_a_full_replica_is_asked_again(client: FakeInferenceClient) -> None:
    client.refusals = [CapacityError("every replica is full")]
    recognizer = STT()
    errors: list[stt.STTError] = []
    recognizer.on("error", errors.append)
    stream = recognizer.stream(conn_options=NOW)
    engine = await client.stream()
    engine.emit(final("hello"))
    stream.end_input()
    engine.finish()

    assert [data.text for data in await finals(stream)] == ["hello"]
    assert [error.recoverable for error in errors] == [True]
    await stream.aclose()


async def test_a_lost_stream_goes_on_with_later_times(client: FakeInferenceClient) -> None:
    stream = STT().stream(conn_options=NOW)
    stream.start_time_offset = 5.0
    first = await client.stream()
    first.emit(final("one"))
    first.fail(PeerFailedError("replica speech-0 broke"))
    second = await client.stream(1)
    second.emit(final("two"))
    stream.end_input()
    second.finish()

    one, two = await finals(stream)
    assert (one.text, two.text) == ("one", "two")
    assert one.start_time == pytest.approx(5.0, abs=0.05)
    # livekit-agents waits 0.1 s before it tries again.
    assert two.start_time > one.start_time + 0.1
    assert first.closed
    await stream.aclose()


async def test_a_poisoned_stream_is_not_tried_again(client: FakeInferenceClient) -> None:
    stream = STT().stream(conn_options=NOW)
    (await client.stream()).fail(EngineError("engine stt failed on this stream"))

    with pytest.raises(Exception, match="failed on this stream") as caught:
        await finals(stream)
    assert not caught.value.retryable
    assert len(client.streams) == 1
    await stream.aclose()


async def test_it_gives_up_after_its_retries(client: FakeInferenceClient) -> None:
    client.refusals = [PeerFailedError("no replica")] * 9
    stream = STT().stream(conn_options=NOW)

    with pytest.raises(APIConnectionError, match="failed to recognize"):
        await finals(stream)
    assert len(client.opened) == 3
    await stream.aclose()


async def test_an_open_that_hangs_is_a_timeout(
    client: FakeInferenceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_args: object, **_options: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(client, "open", never)
    stream = STT().stream(conn_options=APIConnectOptions(max_retry=0, timeout=0.001))

    with pytest.raises(APIConnectionError, match="engine stt opened no stream within"):
        await finals(stream)
    await stream.aclose()


async def test_new_options_take_a_new_stream_after_the_old_is_told(
    client: FakeInferenceClient,
) -> None:
    recognizer = STT(grammar="one")
    stream = recognizer.stream()
    stream.push_frame(audio(2.0))
    first = await client.stream()
    recognizer.update_options(grammar="two")
    stream.push_frame(audio(1.0))
    stream.end_input()
    await first.until(2)
    first.emit(final("old", 0.5, 1.0))
    first.finish()
    second = await client.stream(1)
    await second.until(2)
    second.emit(final("new", 0.5, 1.0))
    second.finish()

    old, new = await finals(stream)
    assert (old.text, new.text) == ("old", "new")
    assert new.start_time - old.start_time == pytest.approx(2.0)
    assert first.inputs[1:] == ["<end>"]
    assert (first.options["grammar"], second.options["grammar"]) == ("one", "two")
    await stream.aclose()


@pytest.mark.parametrize("buffer", [audio(1.0), [audio(0.5), audio(0.5)]])
async def test_a_whole_recording_is_recognized(
    client: FakeInferenceClient, buffer: AudioBuffer
) -> None:
    recognizer = STT()
    seen: list[metrics.STTMetrics] = []
    recognizer.on("metrics_collected", seen.append)
    recognizing = asyncio.create_task(recognizer.recognize(buffer))
    engine = await client.stream()
    engine.emit(final("one", 0.0, 0.4), final(""), final("two", 0.5, 0.9))
    engine.finish()
    event = await recognizing

    assert event.type == "final_transcript"
    assert event.alternatives[0].text == "one two"
    assert (event.alternatives[0].start_time, event.alternatives[0].end_time) == (0.0, 0.9)
    assert sum(len(item[0]) for item in engine.inputs[:-1]) == 48_000
    assert seen[0].audio_duration == pytest.approx(1.0)
    assert engine.options["interim_results"] is False


async def test_a_silent_recording_has_no_words(client: FakeInferenceClient) -> None:
    recognizing = asyncio.create_task(STT().recognize(audio(), language="de"))
    (await client.stream()).finish()
    event = await recognizing

    assert (event.alternatives[0].text, event.alternatives[0].language) == ("", "de")


async def test_the_plugin_ends_its_streams(client: FakeInferenceClient) -> None:
    recognizer = STT()
    stream = recognizer.stream()
    engine = await client.stream()
    await recognizer.aclose()

    assert engine.closed
    assert await finals(stream) == []


async def test_what_a_lost_stream_left_unsaid_is_said_again(client: FakeInferenceClient) -> None:
    stream = STT().stream(conn_options=NOW)
    stream.start_time_offset = 5.0
    for _ in range(3):
        stream.push_frame(audio(1.0))
    first = await client.stream()
    await first.until(3)
    first.emit(final("one", 0.2, 1.0))
    first.fail(PeerFailedError("no replica for engine stt in 5 s"))
    stream.flush()
    second = await client.stream(1)
    frame = (bytes(48_000), 24_000)
    assert await second.until(3) == [frame, frame, "<flush>"]
    second.fail(PeerFailedError("no replica for engine stt in 5 s"))
    third = await client.stream(2)
    assert await third.until(3) == [frame, frame, "<flush>"]
    third.emit(final("two", 0.5, 1.5))
    stream.end_input()
    third.finish()

    one, two = await finals(stream)
    assert (one.text, two.text) == ("one", "two")
    # Two seconds of audio were given again, which began before the attempt.
    assert two.start_time == pytest.approx(5.0 - 2.0 + 0.5 + 0.1, abs=0.5)
    await stream.aclose()


async def test_what_may_have_failed_replicas_is_not_said_again(
    client: FakeInferenceClient,
) -> None:
    stream = STT().stream(conn_options=NOW)
    stream.push_frame(audio(1.0))
    first = await client.stream()
    await first.until(1)
    first.fail(StreamGivenUpError("the stream lost replica after replica"))
    second = await client.stream(1)
    stream.end_input()
    assert await second.until(1) == ["<end>"]
    second.finish()
    assert await finals(stream) == []
    await stream.aclose()


async def test_every_option_changes_at_run_time(client: FakeInferenceClient) -> None:
    recognizer = STT(engine_options={"prompt": "names"})
    recognizer.update_options(
        grammar="g",
        language_model=Path("model"),
        dictionary="dictionary",
        language=None,
        interim_results=False,
        activation_threshold=0.6,
        min_speech_duration=0.1,
        min_silence_duration=0.2,
        prefix_padding_duration=0.3,
    )
    stream = recognizer.stream()
    engine = await client.stream()
    assert engine.options == {
        "grammar": "g",
        "language_model": "model",
        "dictionary": "dictionary",
        "interim_results": False,
        "threshold": 0.6,
        "min_speech_s": 0.1,
        "min_silence_s": 0.2,
        "prefix_padding_s": 0.3,
        "prompt": "names",
    }
    assert recognizer.capabilities.interim_results is False
    await stream.aclose()


async def test_the_connection_is_told_in_the_metrics(client: FakeInferenceClient) -> None:
    recognizer = STT()
    seen: list[metrics.STTMetrics] = []
    recognizer.on("metrics_collected", seen.append)
    async with recognizer.stream() as stream:
        stream.end_input()
        (await client.stream()).finish()
        await finals(stream)

    assert [(m.acquire_time is not None, m.audio_duration) for m in seen] == [(True, 0.0)]
    assert seen[0].metadata is not None
    assert (seen[0].metadata.model_name, seen[0].metadata.model_provider) == ("stt-model", "fakes")
