"""Time as a parameter: the clock, deadlines, and backoff with jitter."""

import random
import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests hand in a virtual one."""

    def monotonic(self) -> float:
        """Return seconds that never go back, for intervals."""
        ...

    def wall(self) -> float:
        """Return Unix seconds, for what people and other machines read."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def wall(self) -> float:
        """Return `time.time()`."""
        return time.time()


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter in its upper half.

    Attributes:
        first_s: the delay before the second attempt, in seconds.
        limit_s: the longest delay, in seconds.
        factor: how much the delay grows with each attempt.
    """

    first_s: float = 0.2
    limit_s: float = 10.0
    factor: float = 2.0

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Return the pause after failed attempt number `attempt` (1 is the first)."""
        # The exponent is bounded: 2.0 ** 1100 overflows a float on a night-long outage.
        ceiling = min(self.limit_s, self.first_s * self.factor ** min(attempt - 1, 60))
        return ceiling * (0.5 + 0.5 * rng.random())
