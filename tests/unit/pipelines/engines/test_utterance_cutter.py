"""Utterances of real synthetic speech."""

import numpy as np
import pytest

from tests.fakes.speech import RATE, frames, spoken
from voxray.pipelines.engines.endpointing import EndpointingOptions
from voxray.pipelines.engines.utterance_cutter import (
    UtteranceBegan,
    UtteranceCutter,
    UtteranceEnded,
    UtteranceGrew,
)

SENTENCE = spoken("When does the next train to Berlin leave?")
OPTIONS = EndpointingOptions(min_silence_s=0.35, prefix_padding_s=0.3)


@pytest.fixture
def cut():
    cutters = []

    def make(*pieces, longest_s=30.0, flush=False):
        cutter = UtteranceCutter(OPTIONS, longest_s=longest_s)
        cutters.append(cutter)
        samples = np.concatenate(pieces)
        events = [event for frame in frames(samples) for event in cutter.push(frame)]
        return events + list(cutter.flush()) if flush else events

    yield make
    for cutter in cutters:
        cutter.close()


def edges(events):
    return [event for event in events if not isinstance(event, UtteranceGrew)]


def audio_s(events):
    samples = 0
    for event in events:
        if isinstance(event, UtteranceBegan):
            samples += sum(len(window) for window in event.audio)
        elif isinstance(event, UtteranceGrew):
            samples += len(event.audio)
    return samples / RATE


def test_a_sentence_is_one_utterance_with_the_audio_before_it(cut):
    events = cut(SENTENCE, np.zeros(RATE, np.int16))
    began, ended = edges(events)
    assert isinstance(began, UtteranceBegan)
    assert isinstance(ended, UtteranceEnded)
    assert not began.goes_on
    assert not ended.goes_on
    # With the padding before the speech, and with the silence that told its end.
    assert audio_s(events) == pytest.approx(ended.at_s - began.at_s + 0.3 + 0.35, abs=0.1)


def test_long_speech_comes_in_parts_without_a_gap(cut):
    speech = np.concatenate([SENTENCE[RATE // 2 : 2 * RATE]] * 4)
    whole = cut(speech, flush=True)
    parts = cut(speech, longest_s=2.0, flush=True)
    kinds = [(type(event), event.goes_on) for event in edges(parts)]
    middle = [(UtteranceEnded, True), (UtteranceBegan, True)] * ((len(kinds) - 2) // 2)
    assert kinds == [(UtteranceBegan, False), *middle, (UtteranceEnded, False)]
    assert middle
    assert audio_s(parts) == audio_s(whole)
    for one, other in zip(edges(parts)[1::2], edges(parts)[2::2], strict=False):
        assert one.at_s == other.at_s


def test_a_flush_ends_the_utterance_and_time_goes_on(cut):
    events = cut(SENTENCE[: RATE + 100], flush=True)
    began, ended = edges(events)
    assert ended.at_s == pytest.approx((RATE + 100) / RATE, abs=0.033)
    assert ended.at_s > began.at_s


def test_silence_is_no_utterance(cut):
    assert cut(np.zeros(2 * RATE, np.int16), flush=True) == []
