"""The real Silero model on synthetic speech."""

import numpy as np
import pytest

from tests.fakes.speech import RATE, frames, spoken
from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import AudioInput, EndOfInput, FlushInput
from voxray.pipelines.engines.silero_vad import SileroVadEngine

SENTENCE = "When does the next train to Berlin leave?"


@pytest.fixture
def vad(bench):
    return bench(SileroVadEngine())


def heard(vad, session, samples):
    return [output for frame in frames(samples) for output in vad.run(session, AudioInput(frame))]


def test_speech_is_seen_in_speech_and_not_in_silence(vad):
    outputs = heard(vad, vad.open(), spoken(SENTENCE))
    inside = [output.probability for output in outputs if 0.6 < output.end_sample / RATE < 2.2]
    before = [output.probability for output in outputs if output.end_sample / RATE < 0.35]
    assert sorted(inside)[len(inside) // 4] > 0.8
    assert max(before) < 0.2


def test_noise_is_not_speech(vad):
    noise = np.random.default_rng(7).normal(0, 300, 2 * RATE).astype(np.int16)
    assert max(output.probability for output in heard(vad, vad.open(), noise)) < 0.5


def test_each_window_is_512_samples_and_says_what_it_cost(vad):
    outputs = heard(vad, vad.open(), np.zeros(5_000, np.int16))
    assert [output.end_sample for output in outputs] == [512 * n for n in range(1, 10)]
    assert all(output.inference_s > 0 for output in outputs)


def test_streams_have_states_of_their_own(vad):
    samples = spoken(SENTENCE)
    alone = [output.probability for output in heard(vad, vad.open(), samples)]
    one, other = vad.open(), vad.open()
    mixed = []
    for frame in frames(samples):
        mixed += [output.probability for output in vad.run(one, AudioInput(frame))]
        vad.run(other, AudioInput(np.full(320, 3000, np.int16)))
    assert mixed == alone


def test_flush_forgets_what_was_heard_but_not_the_position(vad):
    session = vad.open()
    fresh = [output.probability for output in heard(vad, session, spoken(SENTENCE)[:16_384])]
    assert vad.run(session, AudioInput(np.zeros(100, np.int16)), FlushInput()) == []
    again = heard(vad, session, spoken(SENTENCE)[:16_384])
    assert [output.probability for output in again] == fresh
    assert again[0].end_sample == 16_384 + 100 + 512


def test_the_end_says_nothing_more(vad):
    assert vad.run(vad.open(), AudioInput(np.zeros(500, np.int16)), EndOfInput()) == []


def test_it_has_no_options(vad):
    with pytest.raises(EngineConfigError, match="unknown option: threshold"):
        vad.open(threshold=0.5)


def test_work_nobody_waits_for_is_left(vad):
    session = vad.open()
    assert vad.run(session, AudioInput(np.zeros(5120, np.int16)), cancelled=lambda: True) == []
