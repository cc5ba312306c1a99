"""What happens in inference, as typed events; `events` has them all."""

from dataclasses import dataclass

from voxray.base.ids import ReplicaId


@dataclass(frozen=True, kw_only=True)
class BatchDone:
    """An engine worked through a batch. Queue seconds are those of its oldest item."""

    engine: str
    size: int
    queue_s: float
    service_s: float


@dataclass(frozen=True, kw_only=True)
class StreamsChanged:
    """How many streams an engine serves now."""

    engine: str
    open: int


@dataclass(frozen=True, kw_only=True)
class StreamFailed:
    """A stream was refused or failed. `code` as in the wire contract."""

    engine: str
    code: str


@dataclass(frozen=True, kw_only=True)
class StreamReopened:
    """A host opened a stream anew on another replica."""

    engine: str
    gap_s: float
    replayed_s: float


@dataclass(frozen=True, kw_only=True)
class PhraseCacheUsed:
    """A phrase was looked for in the cache of a replica, which takes `bytes` of memory now."""

    engine: str
    hit: bool
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ReplicaWaiting:
    """No node has what a replica needs now; it starts once one has."""

    replica_id: ReplicaId
    group: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReplicaDraining:
    """A replica is not needed any more: it takes no stream, and ends when its own have moved."""

    replica_id: ReplicaId
    group: str
    streams: int


@dataclass(frozen=True, kw_only=True)
class GroupResized:
    """A replica group should have another size, by its streams and its queue."""

    group: str
    wanted: int
    streams: int
    queue_s: float
