"""Everything that the dispatcher's core can ask its drivers to do, as frozen messages.

Commands are done in order: those to one host must reach it in the order given here (a `StopJob`
never overtakes the `StartJob` before it).
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from voxray.actors.contracts import AcceptArguments, JobOrder, ProgramInfo, ReplicaEndpoint
from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.base.settings import ReplicaGroupSettings
from voxray.dispatcher.origins import CallKey, StandIn
from voxray.dispatcher.room_views import DispatchRecord
from voxray.observability.events import Event


@dataclass(frozen=True, kw_only=True)
class AnswerAvailability:
    """Answer an offer.

    Attributes:
        accept: how the agent joins; None refuses. The agent-name attribute that LiveKit expects
            is added by the protocol, not here.
        terminate: with a refusal: LiveKit shall drop the job instead of asking another worker.
    """

    job_id: JobId
    accept: AcceptArguments | None
    terminate: bool = False

    @property
    def available(self) -> bool:
        """Whether the offer is taken."""
        return self.accept is not None


@dataclass(frozen=True, kw_only=True)
class UpdateWorker:
    """Tell LiveKit how loaded we are."""

    full: bool
    load: float
    job_count: int


@dataclass(frozen=True, kw_only=True)
class UpdateJob:
    """Tell LiveKit where a job is (`JS_RUNNING`, `JS_SUCCESS`, `JS_FAILED`)."""

    job_id: JobId
    status: Literal["running", "success", "failed"]
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckRoom:
    """Look whether our participant is in the room; `RoomChecked` brings the answer."""

    job_id: JobId
    room: str
    identity: str


@dataclass(frozen=True, kw_only=True)
class ListRooms:
    """List all rooms; `RoomsListed` comes back."""


@dataclass(frozen=True, kw_only=True)
class ViewRoom:
    """Look at a room's dispatches and participants; `RoomViewed` comes back."""

    room: str
    sid: str


@dataclass(frozen=True, kw_only=True)
class CreateDispatch:
    """Create a dispatch that stands in for one without a job; `DispatchCreated` comes back.

    Attributes:
        like: the dispatch whose metadata, attributes and restart policy it gets.
        maker: see `origins.StandIn`.
    """

    key: CallKey
    room: str
    room_sid: str
    like: DispatchRecord
    maker: str = ""

    @property
    def stand_in(self) -> StandIn:
        """What the dispatch is for."""
        return StandIn(key=self.key, room_sid=self.room_sid, maker=self.maker)


@dataclass(frozen=True, kw_only=True)
class DeleteDispatch:
    """Delete a stand-in; LiveKit ends its job, if it has one. Nothing comes back."""

    room: str
    dispatch_id: str


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Run the program's `request_fnc` on a host.

    Attributes:
        job: serialised `livekit.Job`.
        timeout_s: after it the answer is of no use any more.
    """

    host_id: HostId
    job_id: JobId
    job: bytes
    timeout_s: float


@dataclass(frozen=True, kw_only=True)
class StartJob:
    """Give a host one generation of a job.

    Attributes:
        resign_token: the token in the order was signed for an earlier generation: sign its
            claims anew, with a fresh expiry, before the order goes out.
    """

    host_id: HostId
    order: JobOrder
    resign_token: bool


@dataclass(frozen=True, kw_only=True)
class StopJob:
    """Ask a host to end a generation of a job; its end comes back as a `JobReported`."""

    host_id: HostId
    job_id: JobId
    generation: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SetReplicas:
    """Tell a host where inference is."""

    host_id: HostId
    replicas: tuple[ReplicaEndpoint, ...]


@dataclass(frozen=True, kw_only=True)
class StartHost:
    """Start a session host with a program; `HostStarted` or `HostFailed` comes back."""

    host_id: HostId
    program: ProgramInfo


@dataclass(frozen=True, kw_only=True)
class StopHost:
    """End a session host; `HostRetired` comes back. With `force` it also fences a lost one."""

    host_id: HostId
    force: bool


@dataclass(frozen=True, kw_only=True)
class StartReplica:
    """Start an inference replica; `ReplicaStarted` or `ReplicaFailed` comes back."""

    replica_id: ReplicaId
    group: ReplicaGroupSettings


@dataclass(frozen=True, kw_only=True)
class StopReplica:
    """End an inference replica, at once with `force`; `ReplicaRetired` comes back."""

    replica_id: ReplicaId
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class DrainReplica:
    """Have an inference replica take no more streams; its reports say how many are left."""

    replica_id: ReplicaId


@dataclass(frozen=True, kw_only=True)
class EmitEvent:
    """Hand an event to the sinks."""

    event: Event


@dataclass(frozen=True, kw_only=True)
class Drained:
    """Everything is over: the dispatcher may end. Given once."""


Command: TypeAlias = (
    AnswerAvailability
    | UpdateWorker
    | UpdateJob
    | CheckRoom
    | ListRooms
    | ViewRoom
    | CreateDispatch
    | DeleteDispatch
    | RunRequest
    | StartJob
    | StopJob
    | SetReplicas
    | StartHost
    | StopHost
    | StartReplica
    | StopReplica
    | DrainReplica
    | EmitEvent
    | Drained
)
