"""Audio frames of LiveKit as the PCM that streams take."""

import numpy as np
from livekit import rtc

from voxray.pipelines.audio import samples_to_pcm
from voxray.pipelines.engines.base import Samples


def mono_pcm(frame: rtc.AudioFrame) -> bytes:
    """Return a frame as 16-bit little-endian mono PCM; several channels are averaged."""
    if frame.num_channels == 1:
        return bytes(frame.data.cast("B"))
    samples = np.frombuffer(frame.data, dtype=np.int16).reshape(-1, frame.num_channels)
    mono: Samples = samples.mean(axis=1).astype(np.int16)
    return samples_to_pcm(mono)


def mono_frame(pcm: bytes, rate: int) -> rtc.AudioFrame:
    """Return 16-bit mono PCM as a frame."""
    return rtc.AudioFrame(
        data=pcm, sample_rate=rate, num_channels=1, samples_per_channel=len(pcm) // 2
    )
