"""livekit-agents' own adapters around the plugins, over real replicas or without any."""

import asyncio

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIStatusError,
    APITimeoutError,
    tokenize,
)
from livekit.agents import stt as lk_stt
from livekit.agents import tts as lk_tts

from tests.fakes.plugin_replica import listener, plugin_replica, remote_client, speaker
from tests.fakes.replica_process import replica_here
from voxray.pipelines.plugins.stt import STT
from voxray.pipelines.plugins.tts import TTS
from voxray.pipelines.plugins.vad import VAD

RATE = 16_000
SOON = APIConnectOptions(max_retry=0, timeout=0.2)


def silence(seconds: float) -> rtc.AudioFrame:
    count = int(seconds * RATE)
    return rtc.AudioFrame(bytes(2 * count), RATE, 1, count)


async def words(stream: lk_stt.RecognizeStream) -> list[str]:
    return [e.alternatives[0].text async for e in stream if e.type == "final_transcript"]


async def test_a_recording_of_any_length_is_recognized_from_its_start():
    async with plugin_replica(listener()):
        event = await STT(engine="listener").recognize([silence(0.5)] * 200)
    assert event.alternatives[0].text == f"{100 * RATE} samples"


async def test_another_stt_takes_over_while_there_is_no_replica():
    async with replica_here(hosted=[listener()]) as (_, _, replica), remote_client() as client:
        client.wait_s = 0.05
        ours, second = STT(engine="listener"), STT(engine="listener")
        errors = []
        ours.on("error", errors.append)
        adapter = lk_stt.FallbackAdapter([ours, second], max_retry_per_stt=0, attempt_timeout=5)
        changed = asyncio.Event()
        adapter.on("stt_availability_changed", lambda _: changed.set())
        stream = adapter.stream()
        # The second one is asked when the first has failed: it finds what it wants.
        ours.on("error", lambda _: client.set_replicas((replica,)))
        stream.push_frame(silence(0.1))
        await changed.wait()
        stream.push_frame(silence(0.5))
        stream.end_input()
        assert await words(stream) == [f"{RATE // 2} samples"]
        await stream.aclose()
        await adapter.aclose()
        await ours.aclose()
    assert [error.recoverable for error in errors[:1]] == [False]
    assert isinstance(errors[0].error, APIConnectionError | APIStatusError)


async def test_another_tts_takes_over_while_there_is_no_replica():
    async with plugin_replica(speaker()) as client:
        client.wait_s = 0.05
        ours, second = TTS(engine="nowhere"), TTS(engine="speaker")
        adapter = lk_tts.FallbackAdapter([ours, second], max_retry_per_tts=0)
        async with adapter.synthesize("a sentence to be said") as stream:
            audio = [event.frame async for event in stream]
        await adapter.aclose()
    assert sum(frame.samples_per_channel for frame in audio) >= len("a sentence to be said")


@pytest.mark.parametrize("timeout_s", [0.05, 30.0])
async def test_without_a_replica_a_call_waits_within_a_bound(timeout_s):
    async with remote_client() as client:
        client.wait_s = 0.1
        options = APIConnectOptions(max_retry=1, retry_interval=0.0, timeout=timeout_s)
        recognizer = STT()
        errors = []
        recognizer.on("error", errors.append)
        with pytest.raises(APIConnectionError):
            await recognizer.recognize(silence(0.1), conn_options=options)
        with pytest.raises((APIConnectionError, APIStatusError)):
            async with TTS().synthesize("hello", conn_options=options) as stream:
                await stream.collect()
    assert [error.recoverable for error in errors] == [True, False]
    kind = APITimeoutError if timeout_s < client.wait_s else APIStatusError
    assert all(isinstance(error.error, kind) for error in errors)


async def test_sentences_stream_through_the_adapter_of_livekit_agents():
    async with plugin_replica(speaker()):
        voice = TTS(engine="speaker")
        seen = []
        voice.on("metrics_collected", seen.append)
        adapter = lk_tts.StreamAdapter(
            tts=voice, sentence_tokenizer=tokenize.basic.SentenceTokenizer(min_sentence_len=5)
        )
        stream = adapter.stream()
        for part in ("The first sentence. ", "And the ", "second one."):
            stream.push_text(part)
        stream.end_input()
        frames = [event.frame async for event in stream]
        await stream.aclose()
        await adapter.aclose()
    spoken = sum(frame.samples_per_channel for frame in frames)
    assert spoken >= len("The first sentence.And the second one.")
    assert {m.metadata.model_name for m in seen} == {"scripted"}
    assert len(seen) == 2


async def test_a_vad_outlives_its_replica_and_hears_every_window():
    rng = np.random.default_rng(3)
    pcm = rng.integers(-500, 500, RATE * 4, dtype=np.int16)
    frames = [rtc.AudioFrame(part.tobytes(), RATE, 1, 320) for part in np.split(pcm, 200)]
    stream = VAD(engine="silero").stream()
    async with remote_client() as client:
        async with replica_here(hosted=["silero"]) as (_, _, replica):
            client.set_replicas((replica,))
            for frame in frames[:100]:
                stream.push_frame(frame)
            first = [await anext(stream) for _ in range(40)]
            # What is on its way is lost with the replica.
            for frame in frames[100:150]:
                stream.push_frame(frame)
        for frame in frames[150:]:
            stream.push_frame(frame)
        stream.end_input()
        rest = [event async for event in stream]
        await stream.aclose()
    heard = [event for event in first + rest if event.type == "inference_done"]
    sound = b"".join(bytes(event.frames[0].data.cast("B")) for event in heard)
    assert sound == pcm[: len(pcm) // 512 * 512].tobytes()
    assert [event.samples_index for event in heard] == [512 * n for n in range(1, len(heard) + 1)]
