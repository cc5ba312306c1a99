"""How many hosts to start or retire, and how long to wait after one that failed."""

import math
import random
import re
from dataclasses import dataclass

from voxray.base.ids import HostId
from voxray.base.settings import HostSettings
from voxray.base.timing import Backoff

LINGER_S = 60.0
"""How long a host beyond the pool stays empty before it is retired: a burst often comes back."""
LOOK_AGAIN_S = 1.0
"""Pause between two looks at empty hosts that stay only because jobs are expected."""
LINGER_LIMIT = 8.0
"""How many times longer it stays at most, where bursts keep coming back just after it went."""
YOUNG_S = 10.0
"""A host lost sooner than this after it was ready counts as a failed start."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The hosts of the current version now.

    Attributes:
        ready: hosts that take jobs.
        free: free slots of them.
        empty: how many of them hold no job.
        longest_empty: some of these, longest first, with the monotonic time since when.
        starting: hosts on their way.
        others: hosts that exist and take no job (draining, silent, busy).
        waiting: jobs that have no slot.
        expected: offers to come while a host starts (see `demand.py`).
    """

    ready: int
    free: int
    empty: int
    longest_empty: tuple[tuple[float, HostId], ...]
    starting: int
    others: int
    waiting: int
    expected: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """What to do. `look_again_at` is monotonic: when time alone would change the plan."""

    start: int
    retire: tuple[HostId, ...]
    look_again_at: float | None


def plan(
    pool: Pool,
    settings: HostSettings,
    now: float,
    *,
    growing: bool = True,
    linger_s: float = LINGER_S,
) -> PoolPlan:
    """Plan the pool.

    Starts what is missing to `min_hosts`, to `idle_hosts` empty ones, and to a slot for every
    waiting and every expected job, whichever is most, within `max_hosts`. Retires empty hosts
    beyond `idle_hosts` and `min_hosts` that were empty for `linger_s`, longest first, but none
    whose slots are expected to be taken: what goes now is not started again next.

    Args:
        growing: False while draining: then only waiting jobs start a host, and none is retired.
        linger_s: how long a host stays empty before it is retired.
    """
    unserved = max(0, pool.waiting - pool.free)
    missing = math.ceil(unserved / settings.slots_per_host) - pool.starting
    if growing:
        wanted = pool.waiting + pool.expected - pool.free
        missing = max(
            missing,
            math.ceil(wanted / settings.slots_per_host) - pool.starting,
            settings.min_hosts - pool.ready - pool.starting,
            settings.idle_hosts - pool.empty - pool.starting,
        )
    room = settings.max_hosts - pool.ready - pool.starting - pool.others
    start = max(0, min(missing, room))
    if not growing or start or pool.waiting:
        return PoolPlan(start=start, retire=(), look_again_at=None)
    surplus = min(pool.empty - settings.idle_hosts, pool.ready - settings.min_hosts)
    candidates = pool.longest_empty[: max(0, surplus)]
    not_needed = max(0, int((pool.free - pool.expected) // settings.slots_per_host))
    retire = tuple(host_id for since, host_id in candidates if now >= since + linger_s)[:not_needed]
    # Those that are held back by what is expected: the forecast falls with time.
    later = [max(since + linger_s, now + LOOK_AGAIN_S) for since, _ in candidates[len(retire) :]]
    return PoolPlan(start=0, retire=retire, look_again_at=min(later, default=None))


class StartFailures:
    """Counts starts in a row that fail for the same reason."""

    def __init__(self) -> None:
        self._kind = ""
        self._repeats = 0

    def count(self, reason: str) -> int:
        """Return the how manieth failure of its kind this is; ids and numbers make no new kind."""
        kind = re.sub(r"\b[0-9a-f]{6,}\b|\d+(\.\d+)?", "#", reason)
        self._repeats = self._repeats + 1 if kind == self._kind else 1
        self._kind = kind
        return self._repeats

    def succeeded(self) -> None:
        """A host started: the next failure is news again."""
        self._kind, self._repeats = "", 0


class Linger:
    """How long hosts stay empty: longer where retiring them turned out to be a mistake.

    A host that is wanted again within `LINGER_S` of a retirement was retired too soon: from then
    on hosts stay twice as long, up to `LINGER_LIMIT` times. A retirement without such regret
    halves it again.
    """

    def __init__(self) -> None:
        self._factor = 1.0
        self._retired_at: float | None = None

    @property
    def seconds(self) -> float:
        """How long a host stays empty before it is retired."""
        return LINGER_S * self._factor

    def retired(self, now: float) -> None:
        """A host was retired because it was empty."""
        if self._retired_at is not None and now > self._retired_at + LINGER_S:
            self._factor = max(1.0, self._factor / 2)
        self._retired_at = now

    def started(self, now: float) -> None:
        """A host was started because one more was wanted."""
        if self._retired_at is not None and now <= self._retired_at + LINGER_S:
            self._factor = min(LINGER_LIMIT, self._factor * 2)
            self._retired_at = None


class StartGate:
    """Holds back starts after a failure: one at a time, after a growing pause."""

    def __init__(self, backoff: Backoff, rng: random.Random) -> None:
        self._backoff = backoff
        self._rng = rng
        self._failures = 0
        self._failed_at = 0.0
        self._not_before = 0.0

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    @property
    def failed_at(self) -> float:
        """Monotonic time of the last failure; 0 before there was one."""
        return self._failed_at

    def failed(self, now: float) -> None:
        """Count a failed start."""
        self._failures += 1
        self._failed_at = now
        self._not_before = now + self._backoff.delay_s(self._failures, self._rng)

    def lost(self, ready_at: float, now: float) -> None:
        """Count what was lost soon after it was ready as a failed start."""
        if now < ready_at + YOUNG_S:
            self.failed(now)

    def stands(self, ready_at: float, now: float) -> None:
        """Forget failures if what is ready since `ready_at` came after them and has stayed."""
        if ready_at >= self._failed_at and now >= ready_at + YOUNG_S:
            self._failures = 0

    def allowance(self, now: float, starting: int) -> int | None:
        """Return how many starts may begin now; None for any number."""
        if not self._failures:
            return None
        return max(0, 1 - starting) if now >= self._not_before else 0

    def opens_at(self, now: float) -> float | None:
        """Return when the pause is over, or None when there is none."""
        return self._not_before if self._failures and now < self._not_before else None
