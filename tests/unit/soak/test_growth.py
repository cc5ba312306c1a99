import random

import pytest

from tests.soak.growth import (
    COUNT_LIMIT,
    LIMIT_MIB,
    Sample,
    Verdict,
    count_faults,
    counts,
    fit,
)


def points(per_call, *, noise=1.0, count=60, step=5, seed=5):
    rng = random.Random(seed)
    return [(n * step, 300 + n * step * per_call + rng.gauss(0, noise)) for n in range(count)]


def samples(threads):
    return [
        Sample(calls=n, rss_mib=300.0, threads=number, files=40) for n, number in enumerate(threads)
    ]


@pytest.mark.parametrize(
    ("per_call", "verdict"),
    [
        (0.0, Verdict.FLAT),
        (0.03, Verdict.FLAT),
        (0.13, Verdict.GROWS),
        (0.44, Verdict.GROWS),
        (3.6, Verdict.GROWS),
    ],
)
def test_a_process_that_keeps_calls_is_seen_to_grow(per_call, verdict):
    growth = fit(points(per_call), after=100)
    assert growth.verdict is verdict
    assert growth.slope_mib == pytest.approx(per_call, abs=0.01)
    assert (growth.first, growth.last) == (100, 295)


def test_a_few_settled_samples_suffice():
    assert fit(points(0.0, noise=0.5, count=8, step=20), after=0).verdict is Verdict.FLAT
    assert fit(points(0.2, noise=0.5, count=8, step=20), after=0).verdict is Verdict.GROWS


def test_noise_that_could_hide_a_growth_is_no_proof_of_none():
    growth = fit(points(0.0, noise=80.0), after=100)
    assert growth.verdict is Verdict.UNCLEAR
    assert growth.error_mib > LIMIT_MIB


def test_two_samples_prove_nothing():
    growth = fit([(0, 300.0), (20, 300.0)], after=0)
    assert growth.verdict is Verdict.UNCLEAR
    assert growth.to_json()["error_mib"] is None


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 20, 40])
def test_the_confidence_is_what_it_says(freedom):
    """Of lines through pure noise, about one in twenty claims more than there is."""
    trials = 2000
    over = 0
    for seed in range(trials):
        growth = fit(points(0.0, count=freedom + 2, seed=seed), after=0)
        over += growth.slope_mib - growth.error_mib > 0
    assert 0.03 < over / trials < 0.07


def test_more_threads_are_a_fault_beyond_what_pools_add():
    few, many = [70] * 10 + [70 + COUNT_LIMIT] * 5, [70] * 10 + [71 + COUNT_LIMIT] * 5
    assert count_faults("host", counts(samples(few), after=0)) == []
    (fault,) = count_faults("host", counts(samples(many), after=0))
    assert "threads" in fault
    assert count_faults("host", counts(samples(reversed(many)), after=0)) == []
