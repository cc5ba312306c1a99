"""PCM conversion, sample rates and windows."""

import numpy as np
import pytest

from voxray.base.errors import ProtocolError
from voxray.pipelines.audio import (
    StreamResampler,
    WindowCutter,
    pcm_to_samples,
    samples_to_pcm,
)

RATES = [(24_000, 16_000), (48_000, 16_000), (8_000, 16_000), (44_100, 16_000), (22_050, 24_000)]


def tone(frequency: float, rate: int, seconds: float = 1.0, level: float = 12_000) -> np.ndarray:
    moments = np.arange(int(rate * seconds)) / rate
    return np.rint(level * np.sin(2 * np.pi * frequency * moments)).astype(np.int16)


def level_db(samples: np.ndarray, reference: float = 12_000 / np.sqrt(2)) -> float:
    power = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    return 20 * np.log10(max(power, 1e-9) / reference)


def in_chunks(resampler: StreamResampler, samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    parts = []
    at = 0
    for turn in range(len(samples)):
        if at >= len(samples):
            break
        size = sizes[turn % len(sizes)]
        parts.append(resampler.push(samples[at : at + size]))
        at += size
    return np.concatenate(parts)


def test_pcm_is_little_endian_and_comes_back_whole():
    assert pcm_to_samples(b"\x01\x00\xff\xff\x00\x80").tolist() == [1, -1, -32768]
    assert samples_to_pcm(np.array([1, -1, -32768], np.int16)) == b"\x01\x00\xff\xff\x00\x80"


def test_half_a_sample_is_refused():
    with pytest.raises(ProtocolError, match="3 bytes"):
        pcm_to_samples(b"abc")


@pytest.mark.parametrize("rate", [0, 7_999, 192_001, -16_000])
def test_rates_nobody_records_are_refused(rate):
    with pytest.raises(ProtocolError, match="Hz"):
        StreamResampler(rate, 16_000)


def test_equal_rates_pass_samples_through():
    samples = tone(440, 16_000)
    resampler = StreamResampler(16_000, 16_000)
    assert np.array_equal(resampler.push(samples), samples)
    assert resampler.delay_s == 0


@pytest.mark.parametrize(("source", "target"), RATES)
def test_the_count_is_exact_and_the_cut_does_not_matter(source, target):
    samples = tone(700, source, seconds=1.3)
    whole = StreamResampler(source, target).push(samples)
    assert len(whole) == -(-len(samples) * target // source)
    for sizes in ([source // 100], [1, 7, 480, 3], [source // 20, 0, 1]):
        cut = in_chunks(StreamResampler(source, target), samples, sizes)
        assert len(cut) == len(whole)
        # Sums are made in another order: the last bit of a rounding may differ.
        assert np.abs(cut.astype(int) - whole.astype(int)).max() <= 1


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("frequency", [300, 1_000, 3_000])
def test_a_tone_stays_the_same_tone(source, target, frequency):
    resampler = StreamResampler(source, target)
    heard = resampler.push(tone(frequency, source)).astype(np.float64)
    moments = np.arange(len(heard)) / target - resampler.delay_s
    expected = 12_000 * np.sin(2 * np.pi * frequency * moments)
    middle = slice(target // 20, -target // 20)
    assert level_db((heard - expected)[middle]) < -45


@pytest.mark.parametrize("frequency", [8_000, 8_500, 10_000, 11_900])
def test_what_would_alias_is_gone(frequency):
    heard = StreamResampler(24_000, 16_000).push(tone(frequency, 24_000))
    assert level_db(heard[200:]) < -45


def test_full_scale_does_not_wrap_around():
    square = np.where(tone(200, 24_000) >= 0, 32767, -32768).astype(np.int16)
    heard = StreamResampler(24_000, 16_000).push(square)
    # The filter rings a little around the very first edge.
    crossings = np.count_nonzero(np.diff(np.signbit(heard[200:])))
    assert crossings <= 2 * 200 + 1


def test_reset_forgets_the_past():
    resampler = StreamResampler(24_000, 16_000)
    first = resampler.push(tone(500, 24_000))
    resampler.reset()
    assert np.array_equal(resampler.push(tone(500, 24_000)), first)


def test_windows_have_one_size_and_lose_nothing():
    cutter = WindowCutter(512)
    samples = np.arange(5_000, dtype=np.int16)
    windows = []
    for start in range(0, 5_000, 320):
        windows += cutter.push(samples[start : start + 320])
    assert {len(window) for window in windows} == {512}
    assert np.array_equal(np.concatenate(windows), samples[: 9 * 512])
    assert cutter.waiting == 5_000 - 9 * 512
    cutter.reset()
    assert cutter.waiting == 0
