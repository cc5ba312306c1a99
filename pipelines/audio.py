"""Mono 16-bit PCM: bytes and samples, sample rates, fixed windows."""

from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt

from voxray.base.errors import ProtocolError
from voxray.pipelines.engines.base import Samples

BYTES_PER_SAMPLE = 2
MIN_RATE = 8_000
"""Hz; telephony. Below it no engine understands speech."""
MAX_RATE = 192_000
"""Hz; the highest rate that sound cards record."""

_HALF_WIDTH = 16
# Zero crossings of the sinc on each side, at the lower of the two rates. With the Kaiser window
# below, the transition band is 0.113 of the lower rate wide: (60 - 8) / (2.285 * 2 pi * 32).
_KAISER_BETA = 5.65
# 0.1102 * (60 - 8.7): 60 dB of stop band (Kaiser's own formula).
_CUTOFF = 0.5 - 0.113 / 2
# Middle of the transition band, in parts of the lower rate: what would alias is in the stop band.
_FEW_PHASES = 8

_Floats = npt.NDArray[np.float32]


def pcm_to_samples(pcm: bytes) -> Samples:
    """Return 16-bit little-endian PCM as samples, without a copy (read-only).

    Raises:
        ProtocolError: the length is odd.
    """
    if len(pcm) % BYTES_PER_SAMPLE:
        raise ProtocolError(f"got {len(pcm)} bytes of PCM: 16-bit samples take an even number")
    return np.frombuffer(pcm, dtype="<i2").astype(np.int16, copy=False)


def samples_to_pcm(samples: Samples) -> bytes:
    """Return samples as 16-bit little-endian PCM."""
    return samples.astype("<i2", copy=False).tobytes()


def check_rate(rate: int) -> None:
    """Check that a sample rate is one we resample.

    Raises:
        ProtocolError: it is not between `MIN_RATE` and `MAX_RATE`.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ProtocolError(
            f"got audio at {rate} Hz: rates from {MIN_RATE} to {MAX_RATE} Hz are understood"
        )


class StreamResampler:
    """Changes the sample rate of one stream, chunk by chunk, in a polyphase windowed-sinc filter.

    After n input samples exactly ceil(n * to_rate / from_rate) samples have come out, however
    the input was cut, so clocks never drift apart. The output lags by `delay_s`.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        """Prepare for `from_rate` to `to_rate`, both in Hz.

        Raises:
            ProtocolError: a rate is outside `MIN_RATE` to `MAX_RATE`.
        """
        check_rate(from_rate)
        check_rate(to_rate)
        self.from_rate = from_rate
        self.to_rate = to_rate
        common = gcd(from_rate, to_rate)
        self._up = to_rate // common
        self._down = from_rate // common
        self._identity = from_rate == to_rate
        self._filters = (
            np.zeros((1, 1), np.float32) if self._identity else _filter_bank(self._up, self._down)
        )
        self._taps = self._filters.shape[1]
        self.reset()

    @property
    def delay_s(self) -> float:
        """Seconds by which the output lags behind the input."""
        return 0.0 if self._identity else self._taps / 2 / self.from_rate

    def reset(self) -> None:
        """Forget what was heard; the next sample starts afresh."""
        self._history = np.zeros(self._taps - 1, np.float32)
        # Place of the next output after the start of the next chunk, in input samples / up.
        self._next = 0

    def push(self, samples: Samples) -> Samples:
        """Return what can be told at the new rate after these samples (int16, any length)."""
        if self._identity:
            return samples
        padded = np.concatenate((self._history, samples), dtype=np.float32, casting="unsafe")
        ahead = len(samples) * self._up - self._next
        count = max(0, -(-ahead // self._down))
        convolve = self._by_phase if self._up <= _FEW_PHASES else self._by_index
        result = convolve(padded, count) if count else np.empty(0, np.float32)
        self._next += count * self._down - len(samples) * self._up
        self._history = padded[len(samples) :]
        np.rint(result, out=result)
        np.clip(result, -32768, 32767, out=result)
        return result.astype(np.int16)

    def _by_phase(self, padded: _Floats, count: int) -> _Floats:
        # Outputs of one phase are a fixed step apart: one matrix product each, on a strided view.
        result = np.empty(count, np.float32)
        for offset in range(min(self._up, count)):
            start, phase = divmod(self._next + offset * self._down, self._up)
            rows = -(-(count - offset) // self._up)
            windows: _Floats = np.ndarray(
                (rows, self._taps),
                np.float32,
                padded,
                start * padded.itemsize,
                (self._down * padded.itemsize, padded.itemsize),
            )
            result[offset :: self._up] = windows @ self._filters[phase]
        return result

    def _by_index(self, padded: _Floats, count: int) -> _Floats:
        places = self._next + self._down * np.arange(count)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self._taps)
        picked: _Floats = windows[places // self._up]
        result: _Floats = np.einsum("ij,ij->i", picked, self._filters[places % self._up])
        return result


class WindowCutter:
    """Cuts a stream of samples into windows of one size and keeps the rest for later."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest: Samples = np.empty(0, np.int16)

    @property
    def waiting(self) -> int:
        """Samples that wait for their window to fill."""
        return len(self._rest)

    def push(self, samples: Samples) -> list[Samples]:
        """Return the windows that are complete with these samples, in order."""
        joined = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(joined) // self._size * self._size
        # The rest is copied: it must not keep a large chunk alive.
        self._rest = joined[whole:].copy()
        return [joined[start : start + self._size] for start in range(0, whole, self._size)]

    def reset(self) -> None:
        """Forget the rest."""
        self._rest = np.empty(0, np.int16)


@lru_cache(maxsize=16)
def _filter_bank(up: int, down: int) -> _Floats:
    """Return one filter for each of the `up` fractions of an input sample; rows sum to 1."""
    stretch = max(1.0, down / up)
    taps = 2 * int(np.ceil(_HALF_WIDTH * stretch))
    half = taps / 2
    fractions = np.arange(up)[:, np.newaxis] / up
    distance = np.arange(taps)[np.newaxis, :] - half + 1 - fractions
    inside = np.clip(1 - (distance / half) ** 2, 0, None)
    window = np.i0(_KAISER_BETA * np.sqrt(inside)) / np.i0(_KAISER_BETA)
    bank = np.sinc(2 * _CUTOFF / stretch * distance) * window
    bank /= bank.sum(axis=1, keepdims=True)
    return bank.astype(np.float32)
