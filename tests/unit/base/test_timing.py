import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxray.base.timing import Backoff, SystemClock


class Dice(random.Random):
    """Always throws the same number."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def random(self):
        return self.number


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (2000, 5.0)]
)
def test_grows_up_to_its_limit_with_jitter_in_the_upper_half(attempt, longest):
    backoff = Backoff(first_s=1.0, limit_s=5.0, factor=2.0)
    assert backoff.delay_s(attempt, Dice(0.0)) == longest / 2
    assert backoff.delay_s(attempt, Dice(1.0)) == longest


@given(
    attempt=st.integers(1, 10_000),
    first=st.floats(0.001, 10),
    limit=st.floats(0.001, 1000),
    factor=st.floats(1, 10),
    seed=st.integers(),
)
def test_is_always_positive_and_bounded(attempt, first, limit, factor, seed):
    delay = Backoff(first_s=first, limit_s=limit, factor=factor).delay_s(
        attempt, random.Random(seed)
    )
    assert 0 < delay <= limit


def test_the_system_clock_is_the_machines():
    clock = SystemClock()
    assert time.monotonic() <= clock.monotonic() <= time.monotonic()
    assert time.time() <= clock.wall() + 1
