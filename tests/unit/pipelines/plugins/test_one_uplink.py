"""The audio of a call goes up once, and its VAD and its STT both hear all of it."""

import asyncio
import contextlib

import numpy as np
import pytest
from livekit import rtc

from tests.fakes.plugin_replica import listener, plugin_replica
from voxray.actors import grpc_server
from voxray.pipelines import stream_client
from voxray.pipelines.plugins.stt import STT
from voxray.pipelines.plugins.vad import VAD

RATE = 24_000
FRAME = RATE // 50
COUNT = 150


@pytest.fixture
def sent(monkeypatch):
    """The sizes of the batches that went up."""
    sizes = []
    encode = stream_client.codec.encode_client_batch

    def counted(batch):
        data = encode(batch)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(stream_client.codec, "encode_client_batch", counted)
    return sizes


def noise() -> list[rtc.AudioFrame]:
    samples = np.random.default_rng(5).integers(-3000, 3000, COUNT * FRAME, dtype=np.int16)
    return [rtc.AudioFrame(part.tobytes(), RATE, 1, FRAME) for part in np.split(samples, COUNT)]


async def call(frames) -> tuple[str, int]:
    """Have a VAD and an STT hear the frames as a session pushes them; return what they made."""
    voice = VAD(engine="silero").stream()
    async with STT(engine="listener").stream() as words, contextlib.aclosing(voice):
        for frame in frames:
            words.push_frame(frame)
            voice.push_frame(frame)
            await asyncio.sleep(0)
        words.end_input()
        voice.end_input()
        texts = [event.alternatives[0].text async for event in words if event.alternatives]
        windows = [event async for event in voice if event.type == "inference_done"]
        return texts[-1], len(windows)


@pytest.mark.parametrize(("recall_bytes", "times"), [(0, 2), (grpc_server.RECALL_BYTES, 1)])
async def test_the_audio_of_a_call_goes_up_once(sent, monkeypatch, recall_bytes, times):
    monkeypatch.setattr(grpc_server, "RECALL_BYTES", recall_bytes)
    async with plugin_replica(listener(), "silero"):
        heard, windows = await call(noise())
    assert heard == f"{COUNT * FRAME * 16_000 // RATE} samples"
    assert windows == COUNT * FRAME * 16_000 // RATE // 512
    audio = COUNT * FRAME * 2
    assert times * audio < sum(sent) < times * audio * 1.05
