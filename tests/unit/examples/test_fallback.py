"""The chains of examples/fallback: LiveKit's FallbackAdapter over plugins of ours that fail.

The cloud is an OpenAI-compatible server on this machine. Ours fail for real where that is quick
(an engine that is offline, in this process), else by a client that refuses as replicas do.
"""

import importlib.util
import socket
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectOptions, llm, tts

import voxray
from tests.fakes.edge_service import lead
from tests.fakes.inference_client import FakeInferenceClient
from tests.fakes.openai_service import VOICE_RATE, openai_service
from voxray.base.errors import CapacityError, EngineConfigError, EngineError, PeerFailedError
from voxray.pipelines import runtime
from voxray.pipelines.engines import registry
from voxray.pipelines.engines.base import SpeechOutput

pytest.importorskip("livekit.plugins.openai", reason="the extra 'openai' is not installed")
PROGRAM = Path(__file__).parents[3] / "examples" / "fallback" / "agent.py"
AT_ONCE = APIConnectOptions(max_retry=0, retry_interval=0.0, timeout=10.0)
FAILURES = [
    CapacityError("no stream: all are in use"),
    EngineConfigError("piper: no voice 'amy'"),
    EngineError("edge: the service can't be reached"),
    PeerFailedError("no replica"),
]


@pytest.fixture
async def cloud(monkeypatch):
    async with openai_service() as service:
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        yield service


@pytest.fixture
def example(cloud, monkeypatch):
    """The program, whose own language model is not there."""
    monkeypatch.setenv("LOCAL_LLM_URL", f"http://127.0.0.1:{closed_port()}/v1")
    spec = importlib.util.spec_from_file_location("fallback_agent", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def client():
    client = FakeInferenceClient(22_050)
    runtime.install(client)
    yield client
    runtime.uninstall(client)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def close(chain):
    """Close a chain and what is in it, which belongs to the program."""
    await chain.aclose()
    for name in ("_tts_instances", "_stt_instances", "_llm_instances"):
        for each in getattr(chain, name, ()):
            plugin = getattr(each, "wrapped_stt", each)
            await plugin.aclose()
            if hasattr(plugin, "_client"):
                # LiveKit's speech to text of OpenAI leaves its connections open.
                await plugin._client.close()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
async def test_the_cloud_speaks_when_ours_can_not(example, cloud, client, failure):
    client.refusals = [failure] * 5
    voice = example.speaking()
    async with voice.synthesize("Hello there.", conn_options=AT_ONCE) as stream:
        frame = await stream.collect()
    assert cloud.asked == ["speech"]
    assert frame.duration == pytest.approx(cloud.speech_s, abs=0.05)
    assert frame.sample_rate == VOICE_RATE
    await close(voice)


async def test_ours_speaks_while_it_can(example, cloud, client):
    voice = example.speaking()
    async with voice.synthesize("Hello there.", conn_options=AT_ONCE) as stream:
        engine = await client.stream()
        engine.emit(SpeechOutput(np.ones(22_050, np.int16)))
        engine.finish()
        assert (await stream.collect()).duration == pytest.approx(1.0, abs=0.05)
    assert cloud.asked == []
    await close(voice)


async def test_ours_is_asked_again_in_the_background_and_speaks_once_it_can(example, cloud, client):
    client.refusals = [PeerFailedError("no replica")]
    voice = example.speaking()
    async with voice.synthesize("Hello there.", conn_options=AT_ONCE) as stream:
        await stream.collect()
    # The adapter tries the failed one with the text that it had failed on.
    engine = await client.stream()
    engine.emit(SpeechOutput(np.ones(22_050, np.int16)))
    engine.finish()
    recovered = voice._status[0].recovering_synthesize_task
    await recovered
    async with voice.synthesize("And again.", conn_options=AT_ONCE) as stream:
        engine = await client.stream(1)
        engine.emit(SpeechOutput(np.ones(2205, np.int16)))
        engine.finish()
        await stream.collect()
    assert cloud.asked == ["speech"]
    await close(voice)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
async def test_the_cloud_hears_when_ours_can_not(example, cloud, client, failure):
    client.refusals = [failure] * 5
    listener = voxray.VAD()
    ear = example.hearing(listener)
    audio = rtc.AudioFrame.create(16_000, 1, 16_000)
    event = await ear.recognize([audio], conn_options=AT_ONCE)
    assert event.alternatives[0].text == cloud.heard
    assert cloud.asked == ["transcription"]
    await close(ear)


async def test_the_cloud_thinks_when_ours_can_not(example, cloud):
    mind = example.thinking()
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="Who are you?")
    said = ""
    async with mind.chat(chat_ctx=context) as stream:
        async for chunk in stream:
            said += (chunk.delta.content or "") if chunk.delta else ""
    assert said == cloud.words
    assert cloud.asked == ["chat"]
    await close(mind)


async def test_an_online_voice_that_is_offline_is_followed_by_a_local_one(monkeypatch):
    """Both engines are real and in this process; nothing answers where the first one dials."""
    pytest.importorskip("edge_tts", reason="the extra 'edge' is not installed")
    declared = {
        "edge": "voxray.pipelines.engines.edge_tts:EdgeEngine",
        "espeak": "voxray.pipelines.engines.espeak_tts:EspeakEngine",
    }
    points = [EntryPoint(*pair, registry.ENTRY_POINT_GROUP) for pair in declared.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    lead(monkeypatch, f"ws://127.0.0.1:{closed_port()}")
    online, local = (
        voxray.TTS(engine="edge", voice="en-US-EmmaMultilingualNeural"),
        voxray.TTS(engine="espeak"),
    )
    errors = []
    online.on("error", errors.append)
    voice = tts.FallbackAdapter([online, local])
    try:
        async with voice.synthesize("The train leaves at ten.", conn_options=AT_ONCE) as stream:
            frame = await stream.collect()
        assert frame.duration > 1.0
        assert "is this machine offline?" in str(errors[0].error)
        # Not tried again: the caller waits.
        assert len([each for each in errors if not each.recoverable]) == len(errors)
    finally:
        await close(voice)
        runtime.shutdown()
