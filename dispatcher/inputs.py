"""Everything that the dispatcher's core can be told, as frozen messages.

The drivers (websocket, fleet, API) make these; the core never waits for any of them. Inputs of one
host come in the order in which its control stream gave them.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from voxray.actors.contracts import (
    Endpoint,
    HostHeartbeat,
    HostSnapshot,
    JobStatus,
    LoopBlocked,
    LoopFreed,
    ProgramInfo,
    RequestAnswer,
    TurnReport,
)
from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.dispatcher.origins import NO_CALL, JobOrigin
from voxray.dispatcher.replica_inputs import ReplicaFailed as ReplicaFailed  # noqa: PLC0414
from voxray.dispatcher.replica_inputs import ReplicaHeartbeatReceived as ReplicaHeartbeatReceived  # noqa: PLC0414
from voxray.dispatcher.replica_inputs import ReplicaInput as ReplicaInput  # noqa: PLC0414
from voxray.dispatcher.replica_inputs import ReplicaLost as ReplicaLost  # noqa: PLC0414
from voxray.dispatcher.replica_inputs import ReplicaRetired as ReplicaRetired  # noqa: PLC0414
from voxray.dispatcher.replica_inputs import ReplicaStarted as ReplicaStarted  # noqa: PLC0414
from voxray.dispatcher.replica_inputs import ReplicaWaiting as ReplicaWaiting  # noqa: PLC0414
from voxray.dispatcher.survey_inputs import DispatchCreated as DispatchCreated  # noqa: PLC0414
from voxray.dispatcher.survey_inputs import RoomsListed as RoomsListed  # noqa: PLC0414
from voxray.dispatcher.survey_inputs import RoomViewed as RoomViewed  # noqa: PLC0414
from voxray.dispatcher.survey_inputs import SurveyInput as SurveyInput  # noqa: PLC0414


@dataclass(frozen=True, kw_only=True)
class WorkerRegistered:
    """LiveKit took our registration, for the first time or again."""

    worker_id: str


@dataclass(frozen=True, kw_only=True)
class WorkerDisconnected:
    """The websocket broke: LiveKit forgets the offers under way and keeps the rooms."""

    reason: str


WorkerInput: TypeAlias = WorkerRegistered | WorkerDisconnected


@dataclass(frozen=True, kw_only=True)
class Offered:
    """An availability request.

    Attributes:
        job: serialised `livekit.Job`.
        received_at: Unix seconds.
        metadata: of the job; it may name a tenant.
        traceparent: W3C trace context of the dispatch, or empty.
        origin: which call it is for.
    """

    job_id: JobId
    room: str
    job: bytes
    received_at: float
    metadata: str = ""
    traceparent: str = ""
    origin: JobOrigin = NO_CALL


@dataclass(frozen=True, kw_only=True)
class RequestAnswered:
    """The program's `request_fnc` ran on a host."""

    job_id: JobId
    host_id: HostId
    answer: RequestAnswer


@dataclass(frozen=True, kw_only=True)
class RequestFailed:
    """The host could not be asked (gone, unreachable): another one may."""

    job_id: JobId
    host_id: HostId
    reason: str


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """LiveKit gave us a job that we had said to be available for."""

    job_id: JobId
    url: str
    token: str


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A job of our own: it is begun at once, and LiveKit's dispatch knows nothing of it.

    Attributes:
        job: serialised `livekit.Job`.
        token: with which the agent joins, signed by us.
        identity: the agent's.
    """

    job_id: JobId
    room: str
    job: bytes
    url: str
    token: str = field(repr=False)
    identity: str


OfferInput: TypeAlias = Offered | RequestAnswered | RequestFailed | Assigned


@dataclass(frozen=True, kw_only=True)
class Terminated:
    """LiveKit sent a JobTermination; it may mean a predecessor of what runs now."""

    job_id: JobId


class RoomAnswer(StrEnum):
    """What a look into the room showed."""

    PRESENT = "present"
    """Our participant is in the room."""
    ABSENT = "absent"
    """The room is there, our participant is not."""
    GONE = "gone"
    """There is no such room."""
    UNKNOWN = "unknown"
    """LiveKit could not be asked."""


@dataclass(frozen=True, kw_only=True)
class RoomChecked:
    """The answer to a `CheckRoom` command."""

    job_id: JobId
    answer: RoomAnswer


@dataclass(frozen=True, kw_only=True)
class JobReported:
    """A host reports the phase of one generation of a job."""

    host_id: HostId
    status: JobStatus


@dataclass(frozen=True, kw_only=True)
class JobStartFailed:
    """A host refused a `StartJob`, or could not be reached with it."""

    host_id: HostId
    job_id: JobId
    generation: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class TurnReported:
    """A turn of a call is over."""

    report: TurnReport


@dataclass(frozen=True, kw_only=True)
class LoopReported:
    """A host's event loop is blocked, or runs again."""

    host_id: HostId
    report: LoopBlocked | LoopFreed


JobInput: TypeAlias = (
    Terminated | RoomChecked | JobReported | JobStartFailed | LoopReported | TurnReported
)


@dataclass(frozen=True, kw_only=True)
class FleetFound:
    """The actors that an earlier dispatcher left running; nothing is started before it is known.

    The driver watches every one of them; their snapshots and heartbeats follow.
    """

    hosts: tuple[HostId, ...] = ()
    replicas: tuple[ReplicaId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostStarted:
    """A host's actor is up. It takes jobs once its snapshot came."""

    host_id: HostId
    endpoint: Endpoint


@dataclass(frozen=True, kw_only=True)
class HostFailed:
    """A host did not start. `details` are lines that say where in the program, if it was there."""

    host_id: HostId
    reason: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostSnapshotReceived:
    """The first report of a (new) control stream: what the host is and what it runs."""

    snapshot: HostSnapshot


@dataclass(frozen=True, kw_only=True)
class HostHeartbeatReceived:
    """A host is alive."""

    heartbeat: HostHeartbeat


@dataclass(frozen=True, kw_only=True)
class HostLost:
    """A host's control stream broke, or Ray says that its process is dead.

    Attributes:
        evidence: what showed it, for the event.
    """

    host_id: HostId
    evidence: str


@dataclass(frozen=True, kw_only=True)
class HostRetired:
    """A `StopHost` is done."""

    host_id: HostId


HostInput: TypeAlias = (
    HostStarted | HostFailed | HostSnapshotReceived | HostHeartbeatReceived | HostLost | HostRetired
)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Time went on; due whenever `DispatcherCore.next_deadline` has passed."""


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Take no more jobs, let the running ones end for `timeout_s`, then stop everything."""

    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class ShutdownNow:
    """Stop everything at once; calls are cut."""


@dataclass(frozen=True, kw_only=True)
class ProgramChanged:
    """The app's program has a new version: from now on only hosts that run it get jobs.

    Attributes:
        relaunch: whether live calls begin anew with it, instead of ending with the old one.
    """

    program: ProgramInfo
    relaunch: bool = False


@dataclass(frozen=True, kw_only=True)
class PeersLooked:
    """A look at the app's other dispatchers: whether all of them are over."""

    over: bool


ControlInput: TypeAlias = FleetFound | Tick | Drain | ShutdownNow | PeersLooked | ProgramChanged

Input: TypeAlias = (
    WorkerInput
    | OfferInput
    | Simulated
    | JobInput
    | SurveyInput
    | HostInput
    | ReplicaInput
    | ControlInput
)
