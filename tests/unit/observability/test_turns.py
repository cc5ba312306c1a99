"""Turns made of conversation items."""

import itertools

import pytest
from livekit.agents import AgentHandoff, ChatMessage, FunctionCall
from livekit.agents.llm import MetricsReport

from voxray.base.ids import JobId
from voxray.observability import turns
from voxray.observability.turns import TurnCollector


def user(**metrics: object) -> ChatMessage:
    return ChatMessage(role="user", content=["when does it leave"], metrics=metrics)


def assistant(*, interrupted: bool = False, **metrics: object) -> ChatMessage:
    return ChatMessage(
        role="assistant", content=["at nine"], interrupted=interrupted, metrics=metrics
    )


def call(name: str) -> FunctionCall:
    return FunctionCall(call_id=name, name=name, arguments="{}")


@pytest.fixture
def collector() -> TurnCollector:
    return TurnCollector(JobId("AJ_1"), "lobby", "clerk")


def test_a_turn_holds_the_stages_of_question_and_answer(collector: TurnCollector) -> None:
    stt, llm = {"model_name": "en-us"}, {"model_name": "rules"}
    question = user(
        transcription_delay=0.1,
        end_of_turn_delay=0.5,
        on_user_turn_completed_delay=0.01,
        stt_metadata=stt,
    )
    assert collector.item_added(question) is None
    answer = assistant(
        llm_node_ttft=0.2,
        tts_node_ttfb=0.05,
        e2e_latency=0.9,
        started_speaking_at=100.0,
        llm_metadata=llm,
    )
    assert collector.item_added(answer) is None
    turn = collector.agent_state_changed("listening")
    assert turn is not None
    assert turn.stages == {
        "transcription": 0.1,
        "end_of_turn": 0.5,
        "on_user_turn_completed": 0.01,
        "llm_ttft": 0.2,
        "tts_ttfb": 0.05,
        "e2e": 0.9,
    }
    assert (turn.job_id, turn.room, turn.agent, turn.number) == ("AJ_1", "lobby", "clerk", 1)
    assert (turn.models, turn.at) == ({"stt": "en-us", "llm": "rules"}, 100.0)
    assert not turn.interrupted
    assert collector.agent_state_changed("listening") is None


def test_the_greeting_is_no_turn(collector: TurnCollector) -> None:
    assert collector.item_added(assistant(tts_node_ttfb=0.1)) is None
    assert collector.agent_state_changed("listening") is None
    assert collector.close() is None


def test_tools_belong_to_the_turn_in_order(collector: TurnCollector) -> None:
    collector.tools_executed([call("before_any_turn")])
    collector.item_added(user())
    # The agent says that it looks, calls two tools one after the other, and then answers.
    collector.item_added(assistant(llm_node_ttft=0.1, e2e_latency=0.7))
    assert collector.agent_state_changed("thinking") is None
    collector.tools_executed([call("find_station")])
    collector.tools_executed([call("next_departure")])
    collector.item_added(assistant(llm_node_ttft=0.9, e2e_latency=2.0))
    turn = collector.agent_state_changed("listening")
    assert turn is not None
    assert turn.tools == ("find_station", "next_departure")
    # What the user waited for is the first that was said.
    assert turn.stages == {"llm_ttft": 0.1, "e2e": 0.7}


def test_a_question_without_an_answer_is_no_turn(collector: TurnCollector) -> None:
    collector.item_added(user(transcription_delay=1.0))
    assert collector.agent_state_changed("listening") is None
    assert collector.item_added(user(transcription_delay=0.2)) is None
    collector.item_added(assistant())
    turn = collector.agent_state_changed("idle")
    assert turn is not None
    assert (turn.number, turn.stages) == (1, {"transcription": 0.2})


def test_the_next_words_end_an_answered_turn(collector: TurnCollector) -> None:
    collector.item_added(user())
    collector.item_added(assistant(interrupted=True))
    turn = collector.item_added(user())
    assert turn is not None
    assert turn.interrupted
    collector.item_added(assistant())
    last = collector.close()
    assert last is not None
    assert (last.number, last.interrupted) == (2, False)


def test_other_items_tell_nothing(collector: TurnCollector) -> None:
    collector.item_added(user())
    assert collector.item_added(AgentHandoff(new_agent_id="b")) is None
    assert collector.item_added(ChatMessage(role="system", content=["be kind"])) is None
    assert collector.close() is None


def test_sessions_of_a_job_share_the_numbers() -> None:
    numbers = itertools.count(1)
    for expected in (1, 2):
        collector = TurnCollector(JobId("AJ_1"), "lobby", "", numbers=numbers)
        collector.item_added(user())
        collector.item_added(assistant())
        turn = collector.close()
        assert turn is not None
        assert turn.number == expected


def test_every_metric_that_is_read_exists() -> None:
    read = {*turns._USER_STAGES, *turns._AGENT_STAGES, *turns._MODELS, "started_speaking_at"}
    assert read <= MetricsReport.__annotations__.keys()
