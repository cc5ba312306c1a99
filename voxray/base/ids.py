"""Identifiers: one type each, how they are made and what their Ray actors are called."""

import secrets
from typing import NewType

JobId = NewType("JobId", str)
"""LiveKit's job id (`AJ_...`); the same for every generation of the job."""

HostId = NewType("HostId", str)
"""A session host: eight hex digits, never reused; after `<k>-` for those of dispatcher k > 0."""

ReplicaId = NewType("ReplicaId", str)
"""An inference replica: `<group>-<number>`, never reused within an app's life."""

StreamId = NewType("StreamId", int)
"""A logical stream inside one multiplexed connection to a replica; starts at 1."""

SourceId = NewType("SourceId", int)
"""An audio source inside one multiplexed connection; one source may feed many streams."""

DISPATCHER_ACTOR = "dispatcher"
_HOST_PREFIX = "host-"
_REPLICA_PREFIX = "replica-"


def dispatcher_actor_name(index: int) -> str:
    """Return the Ray actor name of one of the app's dispatchers, counted from 0."""
    return f"{DISPATCHER_ACTOR}-{index}" if index else DISPATCHER_ACTOR


def new_host_id(dispatcher: int = 0) -> HostId:
    """Return a fresh id for a host of one of the app's dispatchers."""
    digits = secrets.token_hex(4)
    return HostId(f"{dispatcher}-{digits}" if dispatcher else digits)


def dispatcher_of_host(host_id: HostId) -> int:
    """Return which dispatcher a host belongs to."""
    owner, _, digits = host_id.rpartition("-")
    return int(owner) if digits and owner.isdecimal() else 0


def host_actor_name(host_id: HostId) -> str:
    """Return the Ray actor name of a session host."""
    return f"{_HOST_PREFIX}{host_id}"


def replica_actor_name(replica_id: ReplicaId) -> str:
    """Return the Ray actor name of an inference replica."""
    return f"{_REPLICA_PREFIX}{replica_id}"


def host_of_actor_name(name: str) -> HostId | None:
    """Return the host id in a Ray actor name, or None when it names something else."""
    return HostId(name.removeprefix(_HOST_PREFIX)) if name.startswith(_HOST_PREFIX) else None


def replica_of_actor_name(name: str) -> ReplicaId | None:
    """Return the replica id in a Ray actor name, or None when it names something else."""
    if name.startswith(_REPLICA_PREFIX):
        return ReplicaId(name.removeprefix(_REPLICA_PREFIX))
    return None
