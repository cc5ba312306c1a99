"""What the core is told of inference replicas."""

from dataclasses import dataclass
from typing import TypeAlias

from voxray.actors.contracts import Endpoint, ReplicaHeartbeat
from voxray.base.ids import ReplicaId


@dataclass(frozen=True, kw_only=True)
class ReplicaStarted:
    """A replica's engines are loaded. It is published once its first heartbeat came."""

    replica_id: ReplicaId
    endpoint: Endpoint


@dataclass(frozen=True, kw_only=True)
class ReplicaWaiting:
    """No node has what a replica needs; it starts once one has. Without a reason: one has now."""

    replica_id: ReplicaId
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReplicaFailed:
    """A replica did not start."""

    replica_id: ReplicaId
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReplicaHeartbeatReceived:
    """A replica is alive."""

    heartbeat: ReplicaHeartbeat


@dataclass(frozen=True, kw_only=True)
class ReplicaLost:
    """A replica's watch stream broke, or its process is dead."""

    replica_id: ReplicaId
    evidence: str


@dataclass(frozen=True, kw_only=True)
class ReplicaRetired:
    """A `StopReplica` is done."""

    replica_id: ReplicaId


ReplicaInput: TypeAlias = (
    ReplicaStarted
    | ReplicaWaiting
    | ReplicaFailed
    | ReplicaHeartbeatReceived
    | ReplicaLost
    | ReplicaRetired
)
