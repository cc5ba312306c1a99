"""How many jobs will come before a host that is started now takes its first one.

Hosts take seconds to start, LiveKit waits three for an answer, and a refused room gets no agent by
itself: the hosts for a burst have to be on their way while it still grows. Looking back as far as a
start takes tells what the next start has to be ready for.
"""

import math
from collections import deque

BUCKET_S = 0.25
"""Offers are counted in steps of this length, so that a burst of any size costs the same."""
SHORTEST_S = 2.0
"""The forecast looks back and ahead at least so far: less would be noise."""
LONGEST_S = 15.0
"""It looks ahead no further than this: who knows what calls do in a quarter of a minute."""
UNKNOWN_START_S = 3.0
"""How long a start is taken to last before one was measured."""
STARTS_KEPT = 4
"""The slowest of so many last starts counts: hosts that start together start slower."""
GAIN = 2.0
"""How much of a rise goes on: 4 would be the straight line, which overshoots at every end."""

MARGIN = 2.0
"""Standard deviations of a steady flow that are kept free beyond it."""


def expected_offers(older: int, newer: int) -> float:
    """Return how many offers the next span brings, from those of the last span's two halves.

    What came will come again, give or take chance: `MARGIN` standard deviations of a steady flow
    of that size are added (none for a single offer), because a spare slot is cheap and a refused
    room is not. If more came in the second half than one deviation explains, the rise goes on; a
    fall is not believed.
    """
    total = older + newer
    chance = math.sqrt(total)
    rise = max(0.0, newer - older - chance)
    return total + MARGIN * max(0.0, chance - 1) + GAIN * rise


class Demand:
    """Counts new offers and measures starts, in monotonic seconds handed in."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque()  # (number of the step, offers in it)
        self._starts: deque[float] = deque(maxlen=STARTS_KEPT)

    @property
    def span_s(self) -> float:
        """How far the forecast looks back and ahead: a host's start, within bounds."""
        start_s = max(self._starts, default=UNKNOWN_START_S)
        return min(LONGEST_S, max(SHORTEST_S, start_s))

    def offered(self, now: float) -> None:
        """Count an offer that is new to us."""
        step = int(now / BUCKET_S)
        count = self._buckets.pop()[1] if self._buckets and self._buckets[-1][0] >= step else 0
        self._buckets.append((step, count + 1))
        self._forget(now)

    def started(self, seconds: float) -> None:
        """Note how long a host took to start."""
        self._starts.append(seconds)

    def expected(self, now: float) -> float:
        """Return how many offers are expected within the next `span_s`."""
        self._forget(now)
        if not self._buckets:
            return 0.0
        half = self.span_s / 2
        middle, begin = now - half, now - 2 * half
        newer = older = 0
        for step, count in self._buckets:
            # A step counts where it ends: the offers of this moment are new.
            at = (step + 1) * BUCKET_S
            if at > middle:
                newer += count
            elif at > begin:
                older += count
        return expected_offers(older, newer)

    def _forget(self, now: float) -> None:
        oldest = (now - LONGEST_S) / BUCKET_S
        while self._buckets and self._buckets[0][0] + 1 <= oldest:
            self._buckets.popleft()
