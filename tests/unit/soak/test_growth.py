import random

import pytest

from tests.soak.growth import Sample, fit


def samples(per_call, *, noise=1.0, count=60):
    rng = random.Random(5)
    return [
        Sample(
            calls=n * 5, rss_mib=300 + n * 5 * per_call + rng.gauss(0, noise), threads=9, files=40
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("per_call", "flat"), [(0.0, True), (0.01, True), (0.1, False), (3.6, False)]
)
def test_a_process_that_keeps_calls_is_seen_to_grow(per_call, flat):
    growth = fit(samples(per_call), after=100)
    assert growth.flat is flat
    assert growth.slope_mib == pytest.approx(per_call, abs=0.01)
    assert (growth.first, growth.last) == (100, 295)


def test_noise_alone_is_no_growth():
    assert fit(samples(0.0, noise=20.0), after=100).flat
