"""Spoken sentences for tests, at the rate that engines listen at."""

from functools import cache

import numpy as np

from voxray.pipelines.audio import StreamResampler
from voxray.pipelines.engines.espeak_tts import SAMPLE_RATE, Voice, synthesize

RATE = 16_000


@cache
def spoken(text: str, *, before_s: float = 0.4, after_s: float = 0.8, rate: int = 150):
    """A sentence between two silences, at 16 kHz."""
    speech = StreamResampler(SAMPLE_RATE, RATE).push(synthesize(text, Voice(rate=rate)))
    silences = [np.zeros(int(RATE * seconds), np.int16) for seconds in (before_s, after_s)]
    return np.concatenate([silences[0], speech, silences[1]])


def frames(samples, seconds: float = 0.02):
    """The samples in frames, as a call brings them."""
    size = int(RATE * seconds)
    return [samples[start : start + size] for start in range(0, len(samples), size)]
