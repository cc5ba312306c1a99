"""What the dispatcher knows of one inference replica."""

from dataclasses import dataclass
from enum import StrEnum

from voxray.actors.contracts import Endpoint
from voxray.base.ids import ReplicaId


class ReplicaState(StrEnum):
    """STARTING -> READY -> DRAINING -> STOPPING; one that is lost or stopped is in no set.

    A replica that drains takes no new stream, and ends when its streams have moved.
    """

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(kw_only=True)
class ReplicaRecord:
    """One replica.

    Attributes:
        deadline: when it has been silent, or stopping, for too long; a start has its own limit.
        waiting: what it waits for before it can be started, as long as it does.
        emptied_from: from when on a draining one without streams has ended its last.
        drained_by: when a draining one is stopped whatever it still serves.
    """

    replica_id: ReplicaId
    group: str
    state: ReplicaState
    created_at: float
    deadline: float | None = None
    endpoint: Endpoint | None = None
    engines: tuple[str, ...] = ()
    device: str = ""
    streams: int = 0
    queue_s: float = 0.0
    ready_at: float = 0.0
    waiting: str = ""
    emptied_from: float = 0.0
    drained_by: float = 0.0
