"""What a reopened stream does not say twice."""

import numpy as np
import pytest

from voxray.pipelines.engines.base import (
    ProbabilityOutput,
    SpeechEdgeOutput,
    TranscriptOutput,
    TurnOutput,
    Word,
)
from voxray.pipelines.resume import HeardResume, SpeechResume, speech_output, told_at_s
from voxray.pipelines.wire.messages import Speech


def speech(first, last):
    return Speech(1, first, 16_000, np.arange(first, last, dtype="<i2").tobytes())


def samples(pcm):
    return list(np.frombuffer(pcm, dtype="<i2"))


def test_new_speech_is_all_fresh():
    resume = SpeechResume()
    assert samples(resume.fresh(speech(0, 5))) == [0, 1, 2, 3, 4]
    assert samples(resume.fresh(speech(5, 7))) == [5, 6]


def test_speech_said_again_is_cut_at_the_sample():
    resume = SpeechResume()
    resume.fresh(speech(0, 5))
    resume.reopened()
    assert samples(resume.fresh(speech(0, 3))) == []
    assert samples(resume.fresh(speech(3, 8))) == [5, 6, 7]


def test_what_lies_before_the_mark_is_not_said_again():
    resume = SpeechResume()
    resume.fresh(speech(0, 5))
    resume.marked()
    resume.fresh(speech(5, 7))
    resume.reopened()
    assert samples(resume.fresh(speech(0, 4))) == [2, 3]
    resume.reopened()
    assert samples(resume.fresh(speech(0, 5))) == [4]


def test_a_second_loss_before_anything_new_keeps_the_place():
    resume = SpeechResume()
    resume.fresh(speech(0, 5))
    resume.reopened()
    resume.fresh(speech(0, 2))
    resume.reopened()
    assert samples(resume.fresh(speech(0, 6))) == [5]


@pytest.mark.parametrize(
    ("output", "moved"),
    [
        (ProbabilityOutput(512, 0.5, 0.0), ProbabilityOutput(8512, 0.5, 0.0)),
        (SpeechEdgeOutput(speaking=True, at_s=1.0), SpeechEdgeOutput(speaking=True, at_s=1.5)),
        (
            TranscriptOutput(text="t", final=True, start_s=0.0, end_s=1.0),
            TranscriptOutput(text="t", final=True, start_s=0.5, end_s=1.5),
        ),
        (
            TranscriptOutput("t", True, 0.0, 1.0, words=(Word("t", 0.25, 0.5),)),
            TranscriptOutput("t", True, 0.5, 1.5, words=(Word("t", 0.75, 1.0),)),
        ),
        (TurnOutput(0.5, 1.0, 0.0), TurnOutput(0.5, 1.5, 0.0)),
    ],
)
def test_times_are_moved_to_the_first_opening(output, moved):
    assert HeardResume().place(output, shift_s=0.5, sample_rate=16_000) == moved
    assert HeardResume().place(output, shift_s=1e-12, sample_rate=16_000) == output


def test_an_edge_is_told_once():
    resume = HeardResume()
    edges = [True, True, False, False, True]
    told = [
        resume.place(SpeechEdgeOutput(speaking=edge, at_s=0.0), shift_s=0.0, sample_rate=1)
        for edge in edges
    ]
    assert [edge is not None for edge in told] == [True, False, True, False, True]


def test_an_answer_about_the_turn_is_told_once():
    resume = HeardResume()
    answers = [
        resume.place(TurnOutput(0.5, at_s, 0.0), shift_s=shift_s, sample_rate=1)
        for at_s, shift_s in ((1.0, 0.0), (0.25, 0.75), (0.5, 0.75))
    ]
    assert [answer and answer.at_s for answer in answers] == [1.0, None, 1.25]


def test_when_a_result_ends():
    assert told_at_s(ProbabilityOutput(8000, 0.5, 0.0), 16_000) == 0.5
    assert told_at_s(SpeechEdgeOutput(speaking=True, at_s=2.0), 16_000) == 2.0
    assert told_at_s(TurnOutput(0.5, 2.5, 0.0), 16_000) == 2.5
    assert told_at_s(TranscriptOutput(text="", final=True, start_s=1, end_s=3), 16_000) == 3


def test_speech_comes_as_samples():
    assert list(speech_output(b"\1\0\2\0").samples) == [1, 2]
