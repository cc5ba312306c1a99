"""The audio of a call goes up once, and its VAD and its STT both hear all of it."""

import asyncio
import contextlib

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession

from tests.fakes.plugin_replica import EasyEngine, listener, plugin_replica
from tests.fakes.session_io import AudioFromTest
from voxray.actors import grpc_server
from voxray.pipelines import stream_client
from voxray.pipelines.engines.base import AudioInput, EngineKind
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


class Ears(EasyEngine):
    """An engine that keeps what it hears."""

    def listen(self) -> None:
        self.heard = b""
        self.heard_more = asyncio.Event()
        loop = asyncio.get_running_loop()

        def keep(items):
            for item in items:
                for given in item.inputs:
                    if isinstance(given, AudioInput):
                        self.heard += given.samples.tobytes()
            loop.call_soon_threadsafe(self.heard_more.set)

        self.on_batch = keep

    async def has_heard(self, sound: bytes) -> None:
        while len(self.heard) < len(sound):
            await self.heard_more.wait()
            self.heard_more.clear()
        assert self.heard == sound


async def as_it_is(audio):
    async for frame in audio:
        yield frame


async def changed(audio):
    async for frame in audio:
        yield rtc.AudioFrame((~np.frombuffer(frame.data, "<i2")).tobytes(), 16_000, 1, 320)


async def with_gaps(audio):
    count = 0
    async for frame in audio:
        count += 1
        if count % 3:
            yield frame


async def late(audio):
    waiting = []
    async for frame in audio:
        waiting.append(frame)
        if len(waiting) == 6:
            for each in waiting:
                yield each
            waiting.clear()


async def twice(audio):
    async for frame in audio:
        yield frame
        yield frame


def sound_of(frames):
    return b"".join(bytes(frame.data.cast("B")) for frame in frames)


@pytest.mark.parametrize("branch", [as_it_is, changed, with_gaps, late, twice])
async def test_a_program_that_overrides_a_node_changes_that_branch_only(sent, branch):
    class Overriding(Agent):
        def stt_node(self, audio, model_settings):
            return Agent.default.stt_node(self, branch(audio), model_settings)

    async def given():
        for frame in frames:
            yield frame

    samples = np.random.default_rng(7).integers(-3000, 3000, 60 * 320, dtype=np.int16)
    frames = [rtc.AudioFrame(part.tobytes(), 16_000, 1, 320) for part in np.split(samples, 60)]
    for_stt = sound_of([frame async for frame in branch(given())])
    words, voice = Ears(name="words"), Ears(name="voice", kind=EngineKind.VAD)
    words.listen()
    voice.listen()
    async with plugin_replica(words, voice):
        session = AgentSession(
            stt=STT(engine="words"),
            vad=VAD(engine="voice"),
            turn_handling={"turn_detection": "manual"},
        )
        session.input.audio = microphone = AudioFromTest()
        await session.start(Overriding(instructions=""))
        for frame in frames:
            microphone.say([frame])
            await asyncio.sleep(0)
        await voice.has_heard(sound_of(frames))
        await words.has_heard(for_stt)
        await session.aclose()
    once = branch in (as_it_is, with_gaps, late)
    audio = len(sound_of(frames)) + (0 if once else len(for_stt))
    assert sum(sent) < audio * 1.15
