"""A stereo recording of a call on one time line: the caller left, the agent right."""

import wave
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from voxray.base.errors import ConfigError
from voxray.pipelines.engines.base import Samples

_SAMPLE_BYTES = 2
# Frames arrive unevenly; a channel is moved on the time line only when it is off by more.
_TOLERANCE_S = 0.2


class Side(IntEnum):
    """A channel of the recording."""

    CALLER = 0
    AGENT = 1


@dataclass(kw_only=True)
class _Channel:
    chunks: list[tuple[int, Samples]] = field(default_factory=list)
    end: int = 0


class Recording:
    """Collects both sides of a call; the first frame of either side is the beginning."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._began_s: float | None = None
        self._channels = {side: _Channel() for side in Side}

    @property
    def length_s(self) -> float:
        """How long the recording is, in seconds."""
        return max(channel.end for channel in self._channels.values()) / self._rate

    def add(self, side: Side, at_s: float, samples: Samples) -> None:
        """Add a frame that began at `at_s` seconds of the common clock.

        Frames of a side are joined without a gap while they are roughly in time, so that uneven
        arrival is not heard.
        """
        if self._began_s is None:
            self._began_s = at_s
        channel = self._channels[side]
        place = max(0, round((at_s - self._began_s) * self._rate))
        ahead = place - channel.end
        # A gap is filled with silence; a side that is early waits for the line to catch up.
        position = place if ahead > _TOLERANCE_S * self._rate else channel.end
        channel.chunks.append((position, samples))
        channel.end = position + len(samples)

    def mixed(self) -> Samples:
        """Return the samples of both sides, shape (frames, 2)."""
        length = max(channel.end for channel in self._channels.values())
        stereo = np.zeros((length, len(Side)), dtype=np.int16)
        for side, channel in self._channels.items():
            for position, samples in channel.chunks:
                stereo[position : position + len(samples), side] = samples
        return stereo

    def write(self, path: Path) -> None:
        """Write the recording as a WAV file.

        Raises:
            ConfigError: the file can't be written.
        """
        try:
            with path.open("wb") as raw, wave.open(raw, "wb") as file:
                file.setnchannels(len(Side))
                file.setsampwidth(_SAMPLE_BYTES)
                file.setframerate(self._rate)
                file.writeframes(self.mixed().tobytes())
        except OSError as error:
            raise ConfigError(f"the recording can't be written to {path}: {error}") from error
