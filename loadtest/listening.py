"""When the agent began and ended to speak, told from its audio by energy with hysteresis.

Pure: frames with the time of their arrival in, edges out.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from voxray.pipelines.engines.base import Samples

_FULL_SCALE = 32768.0
_SILENCE_DBFS = -120.0


@dataclass(frozen=True, kw_only=True)
class SpeechBegan:
    """The first loud frame of an utterance arrived at this moment."""

    at_s: float


@dataclass(frozen=True, kw_only=True)
class SpeechEnded:
    """The last loud frame of an utterance arrived at this moment; quiet followed."""

    at_s: float


SpeechEdge: TypeAlias = SpeechBegan | SpeechEnded


@dataclass(frozen=True, kw_only=True)
class ListeningOptions:
    """When sound counts as speech.

    Attributes:
        loud_dbfs: frames at or above this level may begin speech.
        quiet_dbfs: frames below this level may end it; between the two nothing changes.
        begin_s: how long it must be loud before speech has begun: a click has no such length.
        end_s: how long it must be quiet before speech has ended: a pause between sentences is
            shorter (espeak-ng: 0.3 to 0.4 s).
    """

    loud_dbfs: float = -42.0
    quiet_dbfs: float = -50.0
    begin_s: float = 0.04
    end_s: float = 0.7


def level_dbfs(samples: Samples) -> float:
    """Return the level of 16-bit samples in decibels below full scale (0 is a full square wave)."""
    if not len(samples):
        return _SILENCE_DBFS
    power = float(np.mean(np.square(samples.astype(np.float32) / _FULL_SCALE)))
    return max(_SILENCE_DBFS, 10 * float(np.log10(power))) if power > 0 else _SILENCE_DBFS


class SpeechDetector:
    """Follows one speaker, frame by frame."""

    def __init__(self, rate: int, options: ListeningOptions | None = None) -> None:
        self._rate = rate
        self._options = options or ListeningOptions()
        self._speaking = False
        self._loud_s = 0.0
        self._loud_since_s = 0.0
        self._last_loud_s = 0.0
        self._quiet_s = 0.0

    @property
    def speaking(self) -> bool:
        """Whether speech has begun and not yet ended."""
        return self._speaking

    def push(self, at_s: float, samples: Samples) -> SpeechEdge | None:
        """Take the next frame.

        Args:
            at_s: when the frame arrived, in seconds of any one clock.
            samples: its samples; 10 to 20 ms are a good length.

        Returns:
            The edge that this frame brought to light, dated back to the frame it happened in.
        """
        length_s = len(samples) / self._rate
        level = level_dbfs(samples)
        if self._speaking:
            return self._while_speaking(at_s, length_s, level)
        return self._while_quiet(at_s, length_s, level)

    def stop(self) -> SpeechEdge | None:
        """The track is gone: end what is being said. Returns the edge, if there is one."""
        self._loud_s = 0.0
        if not self._speaking:
            return None
        self._speaking = False
        return SpeechEnded(at_s=self._last_loud_s)

    def _while_quiet(self, at_s: float, length_s: float, level: float) -> SpeechEdge | None:
        if level < self._options.loud_dbfs:
            self._loud_s = 0.0
            return None
        if self._loud_s == 0.0:
            self._loud_since_s = at_s
        self._loud_s += length_s
        self._last_loud_s = at_s
        # Frame lengths add up with rounding errors far below a sample.
        if self._loud_s + 1e-6 < self._options.begin_s:
            return None
        self._speaking = True
        self._quiet_s = 0.0
        return SpeechBegan(at_s=self._loud_since_s)

    def _while_speaking(self, at_s: float, length_s: float, level: float) -> SpeechEdge | None:
        if level >= self._options.quiet_dbfs:
            self._last_loud_s = at_s
            self._quiet_s = 0.0
            return None
        # Quiet is counted in audio, not by the clock: a late frame is no silence.
        self._quiet_s += length_s
        if self._quiet_s + 1e-6 < self._options.end_s:
            return None
        return self.stop()
