"""The real end-of-turn model on synthetic speech."""

import threading

import numpy as np
import pytest
from livekit.local_inference import EOT, EOT_MAX_SAMPLES

from tests.fakes.speech import RATE, spoken
from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import AudioInput, EndOfInput, FlushInput, WorkItem
from voxray.pipelines.engines.turn_eot import TurnEngine

SENTENCE = spoken("When does the next train to Berlin leave?")


@pytest.fixture
def turn(bench):
    return bench(TurnEngine())


def test_each_flush_is_answered_by_what_the_model_says_of_the_last_1_2_seconds(turn):
    session = turn.open()
    assert turn.run(session, AudioInput(SENTENCE[: 2 * RATE])) == []
    (first,) = turn.run(session, FlushInput())
    (second,) = turn.run(session, AudioInput(SENTENCE[2 * RATE :]), FlushInput())
    with EOT() as model:
        alone = [
            model.predict(SENTENCE[end - EOT_MAX_SAMPLES : end])
            for end in (2 * RATE, len(SENTENCE))
        ]
    assert [first.probability, second.probability] == pytest.approx(alone)
    assert [first.at_s, second.at_s] == [2.0, len(SENTENCE) / RATE]
    assert first.inference_s > 0


def test_a_turn_that_is_over_is_forgotten_and_time_goes_on(turn):
    session = turn.open()
    assert turn.run(session, AudioInput(SENTENCE), FlushInput(discard=True)) == []
    tail = np.zeros(RATE // 10, np.int16)
    (answer,) = turn.run(session, AudioInput(tail), FlushInput())
    with EOT() as model:
        assert answer.probability == pytest.approx(model.predict(tail))
    assert answer.at_s == pytest.approx(len(SENTENCE) / RATE + 0.1)


def test_the_calls_of_a_batch_are_answered_side_by_side(bench, monkeypatch):
    turn = bench(TurnEngine(threads=2))
    sessions = [turn.open() for _ in range(2)]
    both = threading.Barrier(2, timeout=30)

    class Model:
        def predict(self, audio):
            both.wait()  # Nobody gets past it alone.
            if len(audio) == 1:
                raise ValueError("poison")
            return 0.25

        def close(self):
            pass

    monkeypatch.setattr(turn.engine, "_model", Model())
    outputs = [[], []]
    items = [
        WorkItem(session, (AudioInput(np.ones(count, np.int16)), FlushInput()), out.append, _never)
        for session, out, count in zip(sessions, outputs, (100, 1), strict=True)
    ]
    errors = list(turn.engine.run_batch(items))
    assert errors[0] is None
    assert isinstance(errors[1], ValueError)
    assert [answer.probability for answer in outputs[0]] == [0.25]
    assert outputs[1] == []


def _never():
    return False


def test_nobody_is_asked_for_a_call_that_was_given_up(turn):
    session = turn.open()
    given = (AudioInput(SENTENCE), FlushInput(), EndOfInput())
    assert turn.run(session, *given, cancelled=lambda: True) == []


@pytest.mark.parametrize("threads", [-1, 65, True, "2"])
def test_a_number_of_threads_that_is_none_is_refused(threads):
    with pytest.raises(EngineConfigError, match="threads must be"):
        TurnEngine(threads=threads)


def test_it_has_no_options(turn):
    with pytest.raises(EngineConfigError, match="unknown option: threshold"):
        turn.open(threshold=0.5)
