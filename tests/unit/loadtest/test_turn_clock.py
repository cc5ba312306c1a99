"""The latency of a turn."""

import pytest

from voxray.loadtest.listening import SpeechBegan, SpeechEnded
from voxray.loadtest.turn_clock import Outcome, TurnClock


def test_answer():
    turn = TurnClock()
    turn.question_ended(10.0)
    assert turn.outcome is Outcome.MISSING
    turn.heard(SpeechBegan(at_s=10.8))
    assert turn.outcome is Outcome.UNFINISHED
    turn.heard(SpeechEnded(at_s=12.0))
    assert turn.outcome is Outcome.ANSWERED
    assert turn.latency_s == pytest.approx(0.8)
    assert not turn.talked_over


def test_only_the_first_audio_counts():
    turn = TurnClock()
    turn.question_ended(10.0)
    for at_s in (11.0, 13.0):
        turn.heard(SpeechBegan(at_s=at_s))
        turn.heard(SpeechEnded(at_s=at_s + 1))
    assert turn.latency_s == 1


def test_no_answer():
    turn = TurnClock()
    turn.question_ended(10.0)
    assert turn.outcome is Outcome.MISSING
    assert turn.latency_s is None


def test_agent_that_speaks_within_the_question():
    turn = TurnClock()
    turn.heard(SpeechBegan(at_s=9.0))
    turn.heard(SpeechEnded(at_s=9.5))
    turn.question_ended(10.0)
    assert turn.talked_over
    assert turn.outcome is Outcome.MISSING
    turn.heard(SpeechBegan(at_s=10.4))
    assert turn.latency_s == pytest.approx(0.4)


def test_end_that_is_still_being_played_when_the_agent_begins():
    turn = TurnClock()
    turn.question_ended(10.0)
    turn.heard(SpeechBegan(at_s=9.9))
    assert turn.talked_over
    assert turn.latency_s is None


def test_agent_that_still_spoke_at_the_beginning():
    turn = TurnClock(agent_speaking=True)
    assert turn.talked_over
    turn.heard(SpeechEnded(at_s=9.0))
    turn.question_ended(10.0)
    assert turn.outcome is Outcome.MISSING
