"""Results of calls as numbers, JSON and tables."""

import io
import json

import pytest
from rich.console import Console

from voxray.loadtest.call import CallResult, Turn
from voxray.loadtest.caller import Exchange, JoinTimes
from voxray.loadtest.load import LoadResult, find_mix_ups
from voxray.loadtest.questions import Question
from voxray.loadtest.report import (
    load_json,
    load_table,
    percentile,
    spread,
    totals_json,
    turn_json,
    turns_table,
)
from voxray.loadtest.turn_clock import Outcome
from voxray.loadtest.turns_api import TurnRecord

LONDON = Question(say="How much is a ticket to London?", expect=("London", "32 dollars"))
PARIS = Question(say="How much is a ticket to Paris?", expect=("Paris", "54 dollars"))


def turn(question=LONDON, answer="A ticket to London costs 32 dollars.", **changes):
    exchange = Exchange(
        outcome=Outcome.ANSWERED if answer else Outcome.MISSING,
        latency_s=changes.pop("latency_s", 0.61234) if answer else None,
        heard=changes.pop("heard", question.say.lower()),
        answer=answer,
        talked_over=False,
    )
    return Turn(question=question, exchange=exchange, **changes)


def call(*turns, room="r", asked=None, joined=True, error=""):
    times = JoinTimes(agent_joined_s=0.2, agent_audible_s=0.3) if joined else None
    return CallResult(
        room=room,
        joined=times,
        greeted=True,
        turns=turns,
        asked=len(turns) if asked is None else asked,
        error=error,
    )


def text_of(table):
    text = io.StringIO()
    Console(width=100, file=text).print(table)
    return text.getvalue()


def test_percentiles_are_measured_values():
    values = [float(n) for n in range(1, 11)]
    assert percentile(values, 50) == 5
    assert percentile(values, 90) == 9
    assert percentile(values, 99) == 10
    assert percentile(values, 0) == 1
    assert percentile([7.0], 50) == 7
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_spread():
    assert spread([]) == {"count": 0}
    assert spread([0.3, 0.1, 0.2]) == {"count": 3, "p50": 0.2, "p90": 0.3, "p99": 0.3, "max": 0.3}


def test_turn():
    inside = TurnRecord(number=1, stages={"e2e": 0.51119}, tools=("find", "ticket_price"))
    assert turn_json(turn(inside=inside)) == {
        "said": LONDON.say,
        "heard": LONDON.say.lower(),
        "tool": "ticket_price",
        "answer": "A ticket to London costs 32 dollars.",
        "expected": ["London", "32 dollars"],
        "outcome": "answered",
        "understood": True,
        "correct": True,
        "latency_s": 0.6123,
        "stages": {"e2e": 0.5112},
    }


def test_turn_without_an_answer():
    result = turn_json(turn(answer="", heard=""))
    assert result["outcome"] == "missing"
    assert result["latency_s"] is None
    assert result["tool"] is None
    assert result["stages"] == {}
    assert not result["understood"]
    assert not result["correct"]


def test_right_answer_to_what_was_not_heard_is_not_understood():
    lucky = turn(heard="something else altogether")
    assert lucky.correct
    assert not lucky.understood


def test_totals():
    turns = [turn(), turn(answer="No idea."), turn(answer="")]
    assert totals_json(turns, asked=4) == {
        "asked": 4,
        "answered": 2,
        "understood": 3,
        "correct": 1,
        "latency_s": {"count": 2, "p50": 0.6123, "p90": 0.6123, "p99": 0.6123, "max": 0.6123},
    }


def test_answers_to_other_callers_are_found():
    crossed = turn(answer="A ticket to Paris costs 54 dollars.")
    wrong = turn(answer="A ticket to Rome costs 99 dollars.")
    right = turn(PARIS, "A ticket to Paris costs 54 dollars.")
    first, second = find_mix_ups([call(crossed, wrong), call(right)])
    assert [turn.mixed_up for turn in first.turns] == [True, False]
    assert [turn.mixed_up for turn in second.turns] == [False]


def test_answer_to_an_own_question_is_not_mixed_up():
    late = turn(answer="A ticket to Paris costs 54 dollars.")
    (result,) = find_mix_ups([call(late, turn(PARIS, ""))])
    assert not result.turns[0].mixed_up


def test_load():
    lost = call(joined=False, asked=2, error="no agent came", room="b")
    result = LoadResult(calls=(call(turn(), turn(PARIS, "No."), room="a"), lost), seconds=9.8765)
    assert result.missing == 2
    content = load_json(result)
    json.dumps(content)
    assert content["rooms"] == 2
    assert content["joined"] == 1
    assert content["missing"] == 2
    assert content["mixed_up"] == 0
    assert content["seconds"] == 9.877
    assert content["agent_audible_s"]["p50"] == 0.3
    assert content["totals"]["asked"] == 4
    assert [part["error"] for part in content["calls"]] == ["", "no agent came"]


def test_tables():
    inside = TurnRecord(number=1, stages={"llm_ttft": 0.005})
    table = text_of(turns_table([turn(inside=inside), turn(answer="")]))
    assert "612" in table
    assert "NO" in table
    result = LoadResult(calls=(call(turn()), call(joined=False, asked=1)), seconds=1.0)
    assert "200" in text_of(load_table(result))
