"""Which replica serves a stream; pure.

Algorithm: of the replicas that offer the engine (by its name, or one of its kind), are not
excluded and are not resting after a failure, take one on the caller's node if there is one; of
those the one with the fewest streams; of equals the smallest id. A replica that nobody has asked
yet which kinds it serves comes after those that are known to serve the kind.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from voxray.base.ids import ReplicaId
from voxray.pipelines.engines.base import EngineKind

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
        offers: names and kinds of its engines as it told itself; None before it was asked.
        rests_until_s: monotonic second from which it may be tried again after a failure.
    """

    replica: Replica
    streams: int = 0
    offers: frozenset[str] | None = None
    rests_until_s: float = 0.0


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


def choose(
    views: Sequence[ReplicaView],
    engine: str,
    *,
    node: str,
    now_s: float,
    excluded: Collection[ReplicaId] = (),
) -> Replica | NoReplica:
    """Return the replica for a stream of an engine, named by its name or its kind."""
    offering = [view for view in views if _may_offer(view, engine)]
    allowed = [view for view in offering if view.replica.replica_id not in excluded]
    usable = [view for view in allowed if view.rests_until_s <= now_s]
    if usable:
        best = min(
            usable,
            key=lambda view: (
                view.replica.node != node,
                view.offers is None,
                view.streams,
                view.replica.replica_id,
            ),
        )
        return best.replica
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


def _may_offer(view: ReplicaView, engine: str) -> bool:
    if view.offers is not None:
        return engine in view.offers
    return engine in view.replica.engines or engine in _KINDS
