"""What the dispatcher and the actors say to each other.

Orders go to an actor as Ray calls. Reports come back on one gRPC stream per actor (`Watch`), as
JSON: a peer ignores fields it does not know.
"""

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from voxray.base.ids import HostId, JobId, ReplicaId

STANDS_IN = "voxray.stands_in_for"
"""Attribute of the dispatches that voxray itself creates; the program does not get to see it."""


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64"
    )


class ProgramInfo(_Message):
    """What the dispatcher has to know of the user's program.

    Attributes:
        path: the program's file, absolute.
        agent_name: name for explicit dispatch; empty for automatic dispatch.
        worker_type: LiveKit's job type (`JT_ROOM`, `JT_PUBLISHER`), as its number.
        permissions: serialised `livekit.ParticipantPermission` of the agent.
        has_request_fnc: whether the program decides itself about each offer.
        has_load_fnc: whether the program reports a load of its own.
        load_threshold: the program's limit for its own load; None for no limit.
        sdk_version: version of livekit-agents, for the registration.
        deployment: LiveKit's deployment name, usually empty.
        http_proxy: the way to LiveKit that the program gave or found in the environment, or empty.
        log_level: the program's own, where nobody else says one.
        job_memory_warn_mb, job_memory_limit_mb: for a job in a process of its own; 0 for none.
        unapplied_options: names of options that the program gave its server and that change
            nothing here.
        version: digest of the program's sources (`program_version`); hosts of another version
            get no more jobs once this one is current.
    """

    path: str
    agent_name: str
    worker_type: int
    permissions: bytes
    has_request_fnc: bool
    has_load_fnc: bool = False
    load_threshold: float | None = None
    drain_timeout_s: float
    initialize_timeout_s: float
    shutdown_timeout_s: float
    session_end_timeout_s: float
    max_retry: int = 16
    sdk_version: str
    deployment: str = ""
    http_proxy: str = Field(default="", repr=False)
    log_level: str = "INFO"
    job_memory_warn_mb: float = 0.0
    job_memory_limit_mb: float = 0.0
    unapplied_options: tuple[str, ...] = ()
    version: str = ""


class AcceptArguments(_Message):
    """How the agent joins, as the program's `request_fnc` said."""

    name: str = ""
    identity: str
    metadata: str = ""
    attributes: dict[str, str] = Field(default_factory=dict)


class RequestAnswer(_Message):
    """What the program's `request_fnc` answered.

    Attributes:
        accept: the arguments of its `accept`; None when it rejected.
        terminate: on a rejection: ask LiveKit to drop the job instead of trying another worker.
        error: why there was no answer of its own (raised, timed out), or empty.
    """

    accept: AcceptArguments | None
    terminate: bool = False
    error: str = ""


class PlacementCause(StrEnum):
    """Why a job is placed."""

    NEW = "new"
    RESUME = "resume"
    MOVE = "move"


class JobOrder(_Message):
    """One placement of a job: everything a host needs to run it.

    Attributes:
        generation: 1 for the first placement; grows by one with each further one.
        room: the room's name, so that a dispatcher that finds the order knows it.
        job: serialised `livekit.Job`.
        url: LiveKit's address for the room.
        token: the agent's token; re-signed for later generations.
        received_at, accepted_at, assigned_at: Unix seconds of the dispatch, for stock spans.
        traceparent: W3C trace context of the placement span, or empty.
        tenant: whose call it is, or empty; a dispatcher that finds the order counts it.
        fake_job: it has no room at LiveKit; livekit-agents' own mock stands in.
        simulated: begun by us: LiveKit is told nothing of it.
    """

    job_id: JobId
    generation: int
    cause: PlacementCause
    job: bytes
    url: str
    token: str = Field(repr=False)
    accept: AcceptArguments
    worker_id: str
    received_at: float
    accepted_at: float
    assigned_at: float
    traceparent: str = ""
    room: str = ""
    tenant: str = ""
    fake_job: bool = False
    simulated: bool = False


class JobPhase(StrEnum):
    """Where a job is on its host.

    STARTING until the agent is in the room, CONNECTED once it is, RUNNING once its audio track
    is published (or its entrypoint has returned without one), ENDED when its life cycle,
    shutdown callbacks included, is over.
    """

    STARTING = "starting"
    CONNECTED = "connected"
    RUNNING = "running"
    ENDED = "ended"


class JobStatus(_Message):
    """The state of one generation of a job on its host.

    Attributes:
        outcome: once ENDED: success or failed.
        reason: once ENDED: the shutdown reason, or the error's type and message.
        changed_at: Unix seconds of the last phase change.
    """

    job_id: JobId
    generation: int
    phase: JobPhase
    outcome: Literal["", "success", "failed"] = ""
    reason: str = ""
    changed_at: float = 0.0


class Endpoint(_Message):
    """Where an actor is reached.

    Attributes:
        address: `host:port` of its gRPC server.
        metrics: `host:port` of its metrics page.
        node: Ray node id.
        pid: process id.
    """

    address: str
    metrics: str
    node: str
    pid: int


class ReplicaEndpoint(_Message):
    """An inference replica as a host sees it."""

    replica_id: ReplicaId
    group: str
    engines: tuple[str, ...]
    address: str
    node: str


class HostSnapshot(_Message):
    """First report of a host on every `Watch` stream: what it is and what it runs.

    Attributes:
        version: of the program, as the host was given it.
        single_use: it takes one job in its life.
        spent: it has taken it.
    """

    type: Literal["host_snapshot"] = "host_snapshot"
    host_id: HostId
    endpoint: Endpoint
    capacity: int
    orders: tuple[JobOrder, ...]
    statuses: tuple[JobStatus, ...]
    version: str = ""
    single_use: bool = False
    spent: bool = False


class HostHeartbeat(_Message):
    """Sent every `heartbeat_s`, by a thread that a blocked job loop can't stop.

    Attributes:
        loop_lag_s: how long the job loop has not run, if it is late now.
        load: the program's own load, if it reports one.
    """

    type: Literal["host_heartbeat"] = "host_heartbeat"
    host_id: HostId
    sequence: int
    jobs: int
    loop_lag_s: float = 0.0
    load: float | None = None


class JobChanged(_Message):
    """A job's phase changed; sent at once."""

    type: Literal["job_changed"] = "job_changed"
    status: JobStatus


class LoopBlocked(_Message):
    """A host's event loop is blocked; sent while it is, by a thread of its own.

    Attributes:
        job_id: the job that holds it; None when it is none of the jobs, or is not known.
        seconds: for how long so far.
        where: the innermost line of the program's own code, or of any; empty if not known.
        stack: `file:line in function: source line`, the innermost call last; no values.
    """

    type: Literal["loop_blocked"] = "loop_blocked"
    job_id: JobId | None
    seconds: float
    where: str = ""
    stack: tuple[str, ...] = ()


class LoopFreed(_Message):
    """A host's event loop runs again; `seconds` is how long it was blocked in all."""

    type: Literal["loop_freed"] = "loop_freed"
    job_id: JobId | None
    seconds: float


class TurnReport(_Message):
    """A turn of a call, without its words (fields as in `observability.events.TurnDone`)."""

    type: Literal["turn"] = "turn"
    job_id: JobId
    room: str
    agent: str
    number: int
    stages: dict[str, float]
    tools: tuple[str, ...] = ()
    interrupted: bool = False
    models: dict[str, str] = Field(default_factory=dict)
    at: float = 0.0


class ReplicaHeartbeat(_Message):
    """Sent by an inference replica on connection and every second.

    Attributes:
        draining: it takes no more streams.
    """

    type: Literal["replica_heartbeat"] = "replica_heartbeat"
    replica_id: ReplicaId
    group: str
    engines: tuple[str, ...]
    endpoint: Endpoint
    device: str
    streams: int
    max_streams: int
    queue_s: float = 0.0
    draining: bool = False


Report: TypeAlias = Annotated[
    HostSnapshot
    | HostHeartbeat
    | JobChanged
    | LoopBlocked
    | LoopFreed
    | TurnReport
    | ReplicaHeartbeat,
    Field(discriminator="type"),
]
