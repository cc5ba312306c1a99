"""The language model that follows rules."""

import json

import pytest
from livekit.agents import llm

TOOLS = ("next_train", "platform_of", "journey_time", "ticket_price", "changes_on_the_way")


@pytest.fixture
def rules(example):
    return example("rules")


def asked(text):
    context = llm.ChatContext.empty()
    context.add_message(role="assistant", content="Welcome.")
    context.add_message(role="user", content=text)
    return context


def returned(name, output, *, is_error=False, question="When does it leave?"):
    context = asked(question)
    call = llm.FunctionCall(call_id="c1", name=name, arguments="{}")
    result = llm.FunctionCallOutput(call_id="c1", name=name, output=output, is_error=is_error)
    context.insert([call, result])
    return context


@pytest.mark.parametrize(
    ("sentence", "tool", "arguments"),
    [
        ("when does the next train to london leave", "next_train", {"destination": "London"}),
        (
            "when does the next train to london leave after ten o'clock",
            "next_train",
            {"destination": "London", "not_before": "10:00"},
        ),
        (
            "When does the next train to Paris leave after 10:45?",
            "next_train",
            {"destination": "Paris", "not_before": "10:45"},
        ),
        (
            "which platform does the sixteen forty five train to geneva leave from",
            "platform_of",
            {"destination": "Geneva", "not_before": "16:45"},
        ),
        (
            "which platform does the next train to geneva leave from",
            "platform_of",
            {"destination": "Geneva"},
        ),
        ("how long does it take to get to boston", "journey_time", {"destination": "Boston"}),
        ("how much is a ticket to denver", "ticket_price", {"destination": "Denver"}),
        (
            "do i have to change trains to get to berlin",
            "changes_on_the_way",
            {"destination": "Berlin"},
        ),
        ("is there a direct train to madrid", "changes_on_the_way", {"destination": "Madrid"}),
    ],
)
def test_question_calls_a_tool(rules, sentence, tool, arguments):
    step = rules.decide(asked(sentence).items, TOOLS)
    assert step == rules.CallTool(name=tool, arguments=arguments)


@pytest.mark.parametrize(
    ("spoken", "time"),
    [
        ("nine fifteen", "09:15"),
        ("ten o'clock", "10:00"),
        ("eight fifty five", "08:55"),
        ("twenty thirty", "20:30"),
        ("twenty one fifteen", "21:15"),
        ("twenty three fifty nine", "23:59"),
        ("nine", None),
        ("forty ten", None),
        ("twenty five o'clock", None),
        ("next", None),
        ("fifteen sixteen seventeen", None),
    ],
)
def test_spoken_time(rules, spoken, time):
    step = rules.decide(asked(f"when is the train to paris after {spoken}").items, TOOLS)
    assert step.arguments.get("not_before") == time


@pytest.mark.parametrize(
    "sentence", ["", "hello", "what is the weather in london", "when does the next train leave"]
)
def test_what_is_not_understood_is_asked_again(rules, sentence):
    assert rules.decide(asked(sentence).items, TOOLS) == rules.Say(text=rules.REPEAT)


def test_only_tools_of_the_agent_are_called(rules):
    items = asked("how much is a ticket to denver").items
    assert rules.decide(items, ["next_train"]) == rules.Say(text=rules.REPEAT)


def test_greeting_before_anybody_asked(rules):
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="Greet the caller.")
    assert rules.decide(context.items, TOOLS) == rules.Say(text=rules.GREETING)


TRAIN = {
    "destination": "Paris",
    "departs": "08:30",
    "platform": 2,
    "minutes": 140,
    "price": 54,
    "currency": "dollars",
    "changes": 1,
}


@pytest.mark.parametrize(
    ("tool", "changes", "sentence"),
    [
        ("next_train", {}, "The train to Paris leaves at 08:30 from platform 2."),
        ("platform_of", {}, "The 08:30 train to Paris leaves from platform 2."),
        ("journey_time", {}, "The journey to Paris takes 2 hours and 20 minutes."),
        ("journey_time", {"minutes": 60}, "The journey to Paris takes 1 hour."),
        ("journey_time", {"minutes": 1}, "The journey to Paris takes 1 minute."),
        ("ticket_price", {}, "A ticket to Paris costs 54 dollars."),
        ("changes_on_the_way", {}, "The train to Paris has 1 change on the way."),
        ("changes_on_the_way", {"changes": 0}, "The train to Paris is direct."),
    ],
)
def test_output_becomes_a_sentence(rules, tool, changes, sentence):
    items = returned(tool, json.dumps(TRAIN | changes)).items
    assert rules.decide(items, TOOLS) == rules.Say(text=sentence)


def test_error_of_a_tool_is_said(rules):
    items = returned("next_train", "there is no train to Atlantis.", is_error=True).items
    assert rules.decide(items, TOOLS).text == "I am sorry, there is no train to Atlantis."


def test_outputs_of_earlier_turns_do_not_count(rules):
    context = returned("ticket_price", json.dumps(TRAIN))
    context.add_message(role="assistant", content="A ticket to Paris costs 54 dollars.")
    context.add_message(role="user", content="how long does it take to get to boston")
    step = rules.decide(context.items, TOOLS)
    assert step == rules.CallTool(name="journey_time", arguments={"destination": "Boston"})


async def test_words_come_one_by_one(rules):
    async with rules.RuleBasedLLM() as model:
        stream = model.chat(chat_ctx=llm.ChatContext.empty())
        async with stream:
            words = [chunk.delta.content async for chunk in stream]
    assert "".join(words) == rules.GREETING
    assert len(words) == len(rules.GREETING.split())
