"""Typed forms of the messages between a worker and LiveKit, and their bytes.

The names are those of `livekit.protocol.agent`; only the fields that voxray uses are here. This is
the one module that builds or reads those protobuf messages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, assert_never

from google.protobuf.message import DecodeError
from livekit.protocol import agent, models

from voxray.actors.contracts import STANDS_IN
from voxray.base.errors import ProtocolError
from voxray.base.ids import JobId
from voxray.dispatcher.origins import NO_CALL, JobOrigin, read_stand_in

# --- worker to LiveKit ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RegisterWorkerRequest:
    """Who we are; the first message of every connection.

    Attributes:
        worker_type: LiveKit's `JobType`, as its number.
        agent_name: name for explicit dispatch; empty for automatic dispatch.
        version: version of livekit-agents.
        permissions: serialised `livekit.ParticipantPermission` of the agent.
        deployment: LiveKit's deployment name, usually empty.
    """

    worker_type: int
    agent_name: str
    version: str
    permissions: bytes = b""
    deployment: str = ""


@dataclass(frozen=True, kw_only=True)
class AvailabilityResponse:
    """The answer to an offer.

    Attributes:
        identity, name, metadata, attributes: how the agent joins, if available.
        terminate: with a refusal: LiveKit shall drop the job instead of asking another worker.
    """

    job_id: JobId
    available: bool
    identity: str = ""
    name: str = ""
    metadata: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    terminate: bool = False


@dataclass(frozen=True, kw_only=True)
class UpdateWorkerStatus:
    """How loaded we are. `load` is 0 to 1; a full worker gets no offers."""

    full: bool
    load: float
    job_count: int


@dataclass(frozen=True, kw_only=True)
class UpdateJobStatus:
    """Where a job is."""

    job_id: JobId
    status: Literal["running", "success", "failed"]
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerPing:
    """Asks for a pong. `timestamp_ms` (Unix milliseconds) comes back in it.

    Attributes:
        counts: whether the lack of an answer says that the server is gone.
    """

    timestamp_ms: int
    counts: bool = True


@dataclass(frozen=True, kw_only=True)
class MigrateJobRequest:
    """The jobs that already run here, told after a registration."""

    job_ids: tuple[JobId, ...]


WorkerMessage: TypeAlias = (
    RegisterWorkerRequest
    | AvailabilityResponse
    | UpdateWorkerStatus
    | UpdateJobStatus
    | WorkerPing
    | MigrateJobRequest
)

# --- LiveKit to worker ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RegisterWorkerResponse:
    """LiveKit took our registration."""

    worker_id: str
    server_version: str
    region: str


@dataclass(frozen=True, kw_only=True)
class AvailabilityRequest:
    """LiveKit offers a job.

    Attributes:
        job: serialised `livekit.Job`.
        resuming: whether the job ran elsewhere before.
        metadata: of the dispatch.
        origin: which call it is for.
    """

    job_id: JobId
    room: str
    job: bytes = field(repr=False)
    resuming: bool
    metadata: str = field(default="", repr=False)
    origin: JobOrigin = NO_CALL


@dataclass(frozen=True, kw_only=True)
class JobAssignment:
    """A job is ours. An empty `url` means the server that we are connected to."""

    job_id: JobId
    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class JobTermination:
    """LiveKit wants a job to end; it may mean a predecessor of what runs now."""

    job_id: JobId


@dataclass(frozen=True, kw_only=True)
class WorkerPong:
    """The answer to a ping, with the ping's own timestamp."""

    last_timestamp_ms: int


@dataclass(frozen=True, kw_only=True)
class UnknownMessage:
    """A well-formed message that we have no use for, e.g. of a newer server."""

    kind: str


ServerMessage: TypeAlias = (
    RegisterWorkerResponse
    | AvailabilityRequest
    | JobAssignment
    | JobTermination
    | WorkerPong
    | UnknownMessage
)

# --- bytes ---------------------------------------------------------------------------------

_JOB_STATUS = {
    "running": agent.JobStatus.JS_RUNNING,
    "success": agent.JobStatus.JS_SUCCESS,
    "failed": agent.JobStatus.JS_FAILED,
}


def encode(message: WorkerMessage) -> bytes:
    """Return the bytes of a message to LiveKit."""
    wire = agent.WorkerMessage()
    match message:
        case RegisterWorkerRequest():
            wire.register.CopyFrom(_registration(message))
        case AvailabilityResponse():
            wire.availability.CopyFrom(_answer(message))
        case UpdateWorkerStatus(full=full, load=load, job_count=job_count):
            wire.update_worker.status = (
                agent.WorkerStatus.WS_FULL if full else agent.WorkerStatus.WS_AVAILABLE
            )
            wire.update_worker.load = load
            wire.update_worker.job_count = job_count
        case UpdateJobStatus(job_id=job_id, status=status, error=error):
            wire.update_job.job_id = job_id
            wire.update_job.status = _JOB_STATUS[status]
            wire.update_job.error = error
        case WorkerPing(timestamp_ms=timestamp_ms):
            wire.ping.timestamp = timestamp_ms
        case MigrateJobRequest(job_ids=job_ids):
            wire.migrate_job.job_ids.extend(job_ids)
        case _ as never:
            assert_never(never)
    return wire.SerializeToString()


def decode(data: bytes) -> ServerMessage:
    """Return the message that LiveKit sent.

    Raises:
        ProtocolError: the bytes are no message, or one without the ids that it needs.
    """
    wire = agent.ServerMessage()
    try:
        wire.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError(f"livekit sent {len(data)} bytes that are no worker message") from error
    kind = wire.WhichOneof("message")
    reader = _READERS.get(kind or "")
    return reader(wire) if reader is not None else UnknownMessage(kind=kind or "unknown")


def origin_of(job: bytes) -> JobOrigin:
    """Return which call a serialised `livekit.Job` is for; bytes that are none say nothing."""
    try:
        wire = agent.Job.FromString(job)
    except DecodeError:
        return NO_CALL
    return _origin(wire)


def _origin(wire: agent.Job) -> JobOrigin:
    return JobOrigin(
        dispatch_id=wire.dispatch_id,
        room_sid=wire.room.sid,
        participant=wire.participant.sid,
        stand_in=read_stand_in(wire.attributes.get(STANDS_IN, "")),
    )


def _registration(request: RegisterWorkerRequest) -> agent.RegisterWorkerRequest:
    permissions = models.ParticipantPermission.FromString(request.permissions)
    # What marks our participants as agents, whatever else the program allows them.
    permissions.agent = True
    wire = agent.RegisterWorkerRequest(
        agent_name=request.agent_name,
        version=request.version,
        allowed_permissions=permissions,
        deployment=request.deployment,
    )
    # By number: the type of a newer livekit-agents has no name here.
    wire.type = request.worker_type  # type: ignore[assignment]  # An enum is an int on the wire.
    return wire


def _answer(answer: AvailabilityResponse) -> agent.AvailabilityResponse:
    return agent.AvailabilityResponse(
        job_id=answer.job_id,
        available=answer.available,
        terminate=answer.terminate,
        participant_identity=answer.identity,
        participant_name=answer.name,
        participant_metadata=answer.metadata,
        participant_attributes=answer.attributes,
    )


def _read_register(wire: agent.ServerMessage) -> ServerMessage:
    response = wire.register
    if not response.worker_id:
        raise ProtocolError("livekit sent a register response without a worker id")
    return RegisterWorkerResponse(
        worker_id=response.worker_id,
        server_version=response.server_info.version,
        region=response.server_info.region,
    )


def _read_availability(wire: agent.ServerMessage) -> ServerMessage:
    job = wire.availability.job
    return AvailabilityRequest(
        job_id=_job_id(job.id, "an offer"),
        room=job.room.name,
        job=job.SerializeToString(),
        resuming=wire.availability.resuming,
        metadata=job.metadata,
        origin=_origin(job),
    )


def _read_assignment(wire: agent.ServerMessage) -> ServerMessage:
    assignment = wire.assignment
    job_id = _job_id(assignment.job.id, "an assignment")
    if not assignment.token:
        raise ProtocolError(f"livekit sent an assignment of {job_id} without a token")
    return JobAssignment(job_id=job_id, url=assignment.url, token=assignment.token)


def _read_termination(wire: agent.ServerMessage) -> ServerMessage:
    return JobTermination(job_id=_job_id(wire.termination.job_id, "a termination"))


def _read_pong(wire: agent.ServerMessage) -> ServerMessage:
    return WorkerPong(last_timestamp_ms=wire.pong.last_timestamp)


def _job_id(value: str, what: str) -> JobId:
    if not value:
        raise ProtocolError(f"livekit sent {what} without a job id")
    return JobId(value)


_READERS: dict[str, Callable[[agent.ServerMessage], ServerMessage]] = {
    "register": _read_register,
    "availability": _read_availability,
    "assignment": _read_assignment,
    "termination": _read_termination,
    "pong": _read_pong,
}
