"""How a stream finds a replica, and finds another one: whom to ask, when to wait, when to stop."""

import random
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from voxray.base.errors import (
    CapacityError,
    ConnectionFailedError,
    EngineConfigError,
    EngineError,
    PeerFailedError,
    StreamEndedError,
    StreamGivenUpError,
    VoxrayError,
)
from voxray.base.ids import ReplicaId
from voxray.base.timing import Backoff
from voxray.pipelines.routing import Caller, NoReplica, Replica, ReplicaView, choose
from voxray.pipelines.wire.messages import Failed

LOST = "lost"
"""Code of a failure that this side saw: the connection broke, or no answer came."""
ABSENT = "absent"
"""Code of a failure that this side saw: the replica does not host the engine."""

STALE = "stale"
"""Code of an opening that was overtaken: the replica that is left has said more meanwhile."""

_BACKOFF = Backoff(first_s=0.1, limit_s=1.0)
# Callers wait: another replica is tried at once, the same one after these pauses.


@dataclass(frozen=True, kw_only=True)
class TryReplica:
    """Ask this replica now."""

    replica: Replica


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Ask again after so many seconds, or as soon as the replicas change."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """No replica will do; `error` says why."""

    error: VoxrayError


Step: TypeAlias = TryReplica | Wait | GiveUp


class Search:
    """One search for a replica, from the need to the answer; pure."""

    def __init__(
        self, engine: str, *, node: str, now_s: float, wait_s: float, rng: random.Random
    ) -> None:
        self._engine = engine
        self._node = node
        self._wait_s = wait_s
        self._deadline_s = now_s + wait_s
        self._rng = rng
        self._resting: dict[ReplicaId, float] = {}
        self._attempts: dict[ReplicaId, int] = {}
        self._last: Failed | None = None
        self._final: VoxrayError | None = None

    def next(
        self, now_s: float, views: Sequence[ReplicaView], near: Collection[ReplicaId] = ()
    ) -> Step:
        """Say what to do now; `near` are the replicas that the call's audio goes to already."""
        if self._final is not None:
            return GiveUp(error=self._final)
        excluded = {replica for replica, until_s in self._resting.items() if until_s > now_s}
        if now_s >= self._deadline_s:
            # Somebody who was never asked is asked also when the time is up.
            excluded |= self._attempts.keys()
        caller = Caller(node=self._node, now_s=now_s, excluded=excluded, near=near)
        found = choose(views, self._engine, caller, self._rng)
        if isinstance(found, Replica):
            return TryReplica(replica=found)
        if now_s >= self._deadline_s:
            return GiveUp(error=self._exhausted(found.reason, offered=found.offered or not views))
        return Wait(seconds=self._pause_s(now_s, found))

    def refused(self, replica_id: ReplicaId, failure: Failed, now_s: float) -> None:
        """Note that a replica did not take the stream, or lost it again."""
        attempt = self._attempts[replica_id] = self._attempts.get(replica_id, 0) + 1
        self._last = failure
        if failure.code == ABSENT:
            self._resting[replica_id] = self._deadline_s
        elif failure.retryable:
            self._resting[replica_id] = now_s + _BACKOFF.delay_s(attempt, self._rng)
        else:
            self._final = error_of(failure)

    def _pause_s(self, now_s: float, found: NoReplica) -> float:
        moments = [self._deadline_s]
        moments += [until_s for until_s in self._resting.values() if until_s > now_s]
        if found.retry_at_s is not None:
            moments.append(found.retry_at_s)
        return max(min(moments) - now_s, 0.001)

    def _exhausted(self, reason: str, *, offered: bool) -> VoxrayError:
        last = "" if self._last is None else f"; the last answer was: {self._last.message}"
        message = f"no replica for engine {self._engine} in {self._wait_s:g} s: {reason}{last}"
        return CapacityError(message) if offered else EngineConfigError(message)


class ReopenBudget:
    """How often one stream may move before it is given up: its input may be what kills replicas."""

    def __init__(self, *, reopens: int = 5, window_s: float = 30.0) -> None:
        self._reopens = reopens
        self._window_s = window_s
        self._moments: deque[float] = deque()

    @property
    def spent(self) -> bool:
        """Whether there was a budget, and it was spent."""
        return bool(self._moments)

    def spend(self, now_s: float) -> bool:
        """Take one reopening from the budget; return whether there was one left."""
        while self._moments and self._moments[0] <= now_s - self._window_s:
            self._moments.popleft()
        if len(self._moments) >= self._reopens:
            return False
        self._moments.append(now_s)
        return True


def given_up(budget: ReopenBudget, failure: Failed) -> PeerFailedError:
    """Return the end of a stream that is not moved, or not any more."""
    if budget.spent:
        return StreamGivenUpError(
            f"the stream lost its replica again and again, at last: {failure.message}"
        )
    return PeerFailedError(f"the stream lost its replica: {failure.message}")


def error_of(failure: Failed) -> VoxrayError:
    """Return the error that tells a caller of a failure."""
    match failure.code:
        case "config" | "absent":
            return EngineConfigError(failure.message)
        case "limit" | "overloaded":
            return CapacityError(failure.message)
        case "lost":
            return ConnectionFailedError(failure.message)
        case _:
            return EngineError(failure.message)


def end_of(error: VoxrayError) -> EngineError | StreamEndedError:
    """Return what the reader of a running stream is told of an error."""
    if isinstance(error, EngineError | StreamEndedError):
        return error
    return PeerFailedError(str(error))
