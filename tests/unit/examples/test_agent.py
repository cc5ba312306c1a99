"""The program of the example, in a session of livekit-agents without audio."""

import json
import sys

import pytest
from livekit.agents import AgentSession


@pytest.fixture
def program(example):
    return example("agent")


async def ask(program, question):
    """Ask in text; return the tool that was called, its arguments, and the answer."""
    async with AgentSession(llm=program.new_llm(), vad=None) as session:
        await session.start(program.InformationDesk())
        result = await session.run(user_input=question)
    calls = [event.item for event in result.events if event.type == "function_call"]
    answers = [event.item for event in result.events if event.type == "message"]
    tools = [(call.name, json.loads(call.arguments)) for call in calls]
    return tools, answers[-1].text_content


@pytest.mark.parametrize(
    ("question", "tool", "answer"),
    [
        (
            "when does the next train to london leave after ten o'clock",
            ("next_train", {"destination": "London", "not_before": "10:00"}),
            "The train to London leaves at 14:40 from platform 7.",
        ),
        (
            "which platform does the nine forty five train to chicago leave from",
            ("platform_of", {"destination": "Chicago", "not_before": "09:45"}),
            "The 09:45 train to Chicago leaves from platform 10.",
        ),
        (
            "how long does it take to get to geneva",
            ("journey_time", {"destination": "Geneva"}),
            "The journey to Geneva takes 2 hours and 35 minutes.",
        ),
        (
            "how much is a ticket to madrid",
            ("ticket_price", {"destination": "Madrid"}),
            "A ticket to Madrid costs 118 dollars.",
        ),
        (
            "is there a direct train to denver",
            ("changes_on_the_way", {"destination": "Denver"}),
            "The train to Denver has 3 changes on the way.",
        ),
        (
            "how much is a ticket to atlantis",
            ("ticket_price", {"destination": "Atlantis"}),
            "I am sorry, there is no train to Atlantis. Ask for another destination.",
        ),
        (
            "when does the next train to london leave after nineteen thirty",
            ("next_train", {"destination": "London", "not_before": "19:30"}),
            "I am sorry, no train to London leaves at 19:30 or later.",
        ),
    ],
)
async def test_turn(program, question, tool, answer):
    tools, said = await ask(program, question)
    assert tools == [tool]
    assert said == answer


async def test_small_talk_calls_no_tool(program):
    tools, said = await ask(program, "hello")
    assert tools == []
    assert "repeat" in said


def test_rules_without_a_server(program, example):
    assert program.new_llm is example("rules").RuleBasedLLM


@pytest.mark.parametrize("variable", ["TIMETABLE_LLM_URL", "OPENAI_BASE_URL"])
def test_openai_compatible_server(example, monkeypatch, variable):
    pytest.importorskip("livekit.plugins.openai")
    monkeypatch.setenv(variable, "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TIMETABLE_LLM_MODEL", "small-one")
    model = example("agent").new_llm()
    assert model.model == "small-one"
    assert str(model._client.base_url) == "http://127.0.0.1:9/v1/"


def test_plugin_that_is_missing_is_named(example, monkeypatch):
    monkeypatch.setenv("TIMETABLE_LLM_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setitem(sys.modules, "livekit.plugins.openai", None)
    monkeypatch.delattr("livekit.plugins.openai", raising=False)
    with pytest.raises(SystemExit, match="livekit-plugins-openai"):
        example("agent")
