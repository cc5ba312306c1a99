"""Turns a caller's sentence into samples, with espeak-ng."""

import asyncio
from collections.abc import Iterable

import numpy as np
from livekit import rtc

from voxray.pipelines.engines.base import Samples
from voxray.pipelines.engines.espeak_tts import SAMPLE_RATE, synthesize

SPEECH_RATE = 24_000
"""Hz of everything that a caller says and hears."""
# Below this a sample of espeak-ng is its lead-in or tail, not speech (about -46 dBFS).
_AUDIBLE = 160


def speak(text: str) -> Samples:
    """Return a sentence as mono samples at `SPEECH_RATE`, without silence at its ends.

    The last sample is the end of speech, from which the latency of an answer counts.

    Raises:
        EngineError: espeak-ng could not speak it.
    """
    return _resample(trim(synthesize(text)))


async def speak_all(texts: Iterable[str]) -> dict[str, Samples]:
    """Speak sentences before any call begins: no caller's audio waits for a synthesis.

    Raises:
        EngineError: espeak-ng could not speak one of them.
    """
    return {text: await asyncio.to_thread(speak, text) for text in dict.fromkeys(texts)}


def trim(samples: Samples) -> Samples:
    """Cut inaudible samples off both ends."""
    audible = np.flatnonzero(np.abs(samples.astype(np.int32)) > _AUDIBLE)
    return samples[audible[0] : audible[-1] + 1] if len(audible) else samples[:0]


def _resample(samples: Samples) -> Samples:
    resampler = rtc.AudioResampler(SAMPLE_RATE, SPEECH_RATE, quality=rtc.AudioResamplerQuality.HIGH)
    frames = [*resampler.push(bytearray(samples.tobytes())), *resampler.flush()]
    parts = [np.frombuffer(frame.data, dtype=np.int16) for frame in frames]
    return np.concatenate(parts) if parts else samples[:0]
