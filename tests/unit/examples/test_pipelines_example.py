"""The example of `voxray.pipeline`, in a session of livekit-agents without audio."""

import importlib.util

import pytest
from livekit.agents import AgentSession, StopResponse, llm

from tests.running_app import ROOT

PROGRAM = ROOT / "examples" / "pipelines" / "agent.py"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("pipelines_example", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_without_a_language_model_the_order_is_repeated(example):
    async with AgentSession(vad=None, turn_handling={"turn_detection": "manual"}) as session:
        waiter = example.Waiter()
        await session.start(waiter)
        order = llm.ChatMessage(role="user", content=["i would like two coffee please"])
        with pytest.raises(StopResponse):
            await waiter.on_user_turn_completed(llm.ChatContext.empty(), order)
        await session.drain()
        said = [item.text_content for item in session.history.items if item.type == "message"]
    assert said == ["what would you like to drink?", "two coffee please, here you are."]


async def test_the_environment_chooses(example, monkeypatch):
    monkeypatch.setenv("TURN_DETECTION_SILENCE_MS", "800")
    session = example.new_session()
    assert session.options.endpointing["min_delay"] == 0.8
    assert session.llm is None
    await session.aclose()
    monkeypatch.setenv("PIPELINE", "openai-compatible")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    session = example.new_session()
    assert session.llm.model == "gpt-4o-mini"
    await session.aclose()
