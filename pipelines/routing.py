"""Which replica serves a stream; pure.

Algorithm: of the replicas that offer the engine (by its name, or one of its kind), are not
excluded and are not resting after a failure, the best kind of candidate is taken, in this order: it
has not failed since it last answered; it is not known to be full; it takes the call's audio
already; it is on the caller's node; it has told that it serves the kind. Of those that are equal in
all this two are drawn, and the one with less to do is taken: the shorter queue by its own report,
or else the smaller share of its streams in use. So hosts that choose at the same moment, by the
same reports, do not all choose the same one (M. Mitzenmacher, "The Power of Two Choices in
Randomized Load Balancing").
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from voxray.base.ids import ReplicaId
from voxray.pipelines.engines.base import EngineKind
from voxray.pipelines.wire.messages import Load

QUEUE_TOLERANCE_S = 0.005
"""Queues that differ by less are equally long: a batch is held back for longer than that."""
_KINDS = frozenset(kind.value for kind in EngineKind)


@dataclass(frozen=True, kw_only=True)
class Replica:
    """An inference replica as the fleet announces it.

    Attributes:
        engines: names of its engines.
        address: `host:port` of its gRPC server.
        node: the node that it runs on.
    """

    replica_id: ReplicaId
    group: str
    engines: tuple[str, ...]
    address: str
    node: str


@dataclass(frozen=True, kw_only=True)
class ReplicaView:
    """A replica and what this process knows of it.

    Attributes:
        streams: streams of this process that it serves.
        load: what it last reported of all its streams; None before it did.
        failures: how often it failed in a row.
        offers: names and kinds of its engines as it told itself; None before it was asked.
        rests_until_s: monotonic second from which it may be tried again after a failure.
    """

    replica: Replica
    streams: int = 0
    load: Load | None = None
    failures: int = 0
    offers: frozenset[str] | None = None
    rests_until_s: float = 0.0

    @property
    def full(self) -> bool:
        """Whether it has said that it takes no more streams."""
        return self.load is not None and self.load.streams >= self.load.max_streams

    def less_to_do(self, other: "ReplicaView") -> bool:
        """Whether this one has less to do than another."""
        ours, theirs = self.work(), other.work()
        if abs(ours[0] - theirs[0]) > QUEUE_TOLERANCE_S:
            return ours[0] < theirs[0]
        return (*ours[1:], self.replica.replica_id) < (*theirs[1:], other.replica.replica_id)

    def work(self) -> tuple[float, float, int]:
        """Return seconds of queue, share of the streams in use, and streams."""
        if self.load is None:
            return 0.0, 0.0, self.streams
        # What we opened since the report is in our own count only.
        streams = max(self.load.streams, self.streams)
        return self.load.queue_s, streams / max(self.load.max_streams, 1), streams


@dataclass(frozen=True, kw_only=True)
class NoReplica:
    """No replica can serve the stream now.

    Attributes:
        reason: why, for people.
        offered: whether some replica offers, or may offer, the engine at all.
        retry_at_s: monotonic second at which the answer may change by itself, if it may.
    """

    reason: str
    offered: bool
    retry_at_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who looks for a replica.

    Attributes:
        node: where the caller is.
        now_s: monotonic time.
        excluded: replicas that are not asked.
        near: replicas that the call's audio goes to already.
    """

    node: str
    now_s: float
    excluded: Collection[ReplicaId] = ()
    near: Collection[ReplicaId] = ()


def choose(
    views: Sequence[ReplicaView], engine: str, caller: Caller, rng: random.Random
) -> Replica | NoReplica:
    """Return the replica for a stream of an engine, named by its name or its kind."""
    offering = [view for view in views if may_offer(view, engine)]
    allowed = [view for view in offering if view.replica.replica_id not in caller.excluded]
    usable = [view for view in allowed if view.rests_until_s <= caller.now_s]
    if usable:
        ranked = [(_rank(view, caller), view) for view in usable]
        best = min(rank for rank, _ in ranked)
        equals = [view for rank, view in ranked if rank == best]
        first, *others = rng.sample(equals, min(2, len(equals)))
        return next((each for each in others if each.less_to_do(first)), first).replica
    if not views:
        return NoReplica(reason="no replica is known", offered=False)
    if not offering:
        return NoReplica(reason=f"none of {len(views)} replicas offers it", offered=False)
    resting = [view.rests_until_s for view in allowed]
    refused = len(offering) - len(allowed)
    return NoReplica(
        reason=f"of {len(offering)} replicas that offer it {len(resting)} rest after a failure"
        f" and {refused} refused",
        offered=True,
        retry_at_s=min(resting, default=None),
    )


def may_offer(view: ReplicaView, engine: str) -> bool:
    """Return whether a replica has an engine, or was not asked yet and may have it."""
    if view.offers is not None:
        return engine in view.offers
    return engine in view.replica.engines or engine in _KINDS


def _rank(view: ReplicaView, caller: Caller) -> tuple[bool, ...]:
    return (
        view.failures > 0,
        view.full,
        view.replica.replica_id not in caller.near,
        view.replica.node != caller.node,
        view.offers is None,
    )
