"""Everything that happens, as typed events; sinks make metrics, spans and stories of them.

Events carry ids for stories and spans. Metrics never use a job, room or identity as a label.
No event carries what was said or who said it.
"""

from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.observability.inference_events import BatchDone as BatchDone  # noqa: PLC0414
from voxray.observability.inference_events import GroupResized as GroupResized  # noqa: PLC0414
from voxray.observability.inference_events import PhraseCacheUsed as PhraseCacheUsed  # noqa: PLC0414
from voxray.observability.inference_events import ReplicaDraining as ReplicaDraining  # noqa: PLC0414
from voxray.observability.inference_events import ReplicaWaiting as ReplicaWaiting  # noqa: PLC0414
from voxray.observability.inference_events import StreamFailed as StreamFailed  # noqa: PLC0414
from voxray.observability.inference_events import StreamReopened as StreamReopened  # noqa: PLC0414
from voxray.observability.inference_events import StreamsChanged as StreamsChanged  # noqa: PLC0414
from voxray.observability.room_events import RoomEvent


@dataclass(frozen=True, kw_only=True)
class WorkerRegistered:
    """The dispatcher registered at LiveKit."""

    worker_id: str
    reconnect: bool


@dataclass(frozen=True, kw_only=True)
class WorkerDisconnected:
    """The dispatcher's websocket to LiveKit broke."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class JobOffered:
    """LiveKit asked whether we take a job."""

    job_id: JobId
    room: str


@dataclass(frozen=True, kw_only=True)
class JobAnswered:
    """We answered an offer. `outcome`: accepted, rejected, full, tenant_limit, draining, duplicate,
    error."""

    job_id: JobId
    outcome: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class JobPlaced:
    """A job was given to a host. `cause`: new, resume, move."""

    job_id: JobId
    host_id: HostId
    generation: int
    cause: str


@dataclass(frozen=True, kw_only=True)
class JobRunning:
    """A job's agent is in its room. `seconds` counts from the offer."""

    job_id: JobId
    host_id: HostId
    generation: int
    cause: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class JobEnded:
    """A job came to its end. `outcome`: success, failed, rejected, lost."""

    job_id: JobId
    outcome: str
    reason: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FailoverDone:
    """A job runs again after what ran it was lost, or could not be brought back.

    Attributes:
        kind: what was lost: host_died, host_silent, dispatcher.
        outcome: resumed, failed, or ended (the call was over before the agent was heard again).
        detection_s: from the last sign of life to the loss being known.
        gap_s: from the last sign of life to the agent's audio track being published again.
    """

    job_id: JobId
    kind: str
    outcome: str
    from_host: HostId
    to_host: HostId | None
    generation: int
    detection_s: float
    gap_s: float
    traceparent: str = ""


@dataclass(frozen=True, kw_only=True)
class TerminationIgnored:
    """LiveKit terminated a job that was just resumed: the message meant its predecessor."""

    job_id: JobId
    generation: int


@dataclass(frozen=True, kw_only=True)
class StopRepeated:
    """A job that was told to end still runs after its time: its host was told again."""

    job_id: JobId
    host_id: HostId
    attempt: int


@dataclass(frozen=True, kw_only=True)
class ProgramChanged:
    """Another version of the program is the current one."""

    version: str


@dataclass(frozen=True, kw_only=True)
class HostStarting:
    """A session host is being started."""

    host_id: HostId


@dataclass(frozen=True, kw_only=True)
class HostReady:
    """A session host takes jobs. `seconds` counts from the start of its actor."""

    host_id: HostId
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HostStartFailed:
    """A session host did not start.

    Attributes:
        details: where in the user's program, one frame a line; only with the first of its kind.
        repeats: how many starts in a row failed for this reason, this one included.
    """

    host_id: HostId
    reason: str
    details: tuple[str, ...] = ()
    repeats: int = 1


@dataclass(frozen=True, kw_only=True)
class HostLost:
    """A session host is gone. `kind` as in `FailoverDone`."""

    host_id: HostId
    kind: str
    evidence: str
    jobs: int


@dataclass(frozen=True, kw_only=True)
class HostRetired:
    """A session host was stopped on purpose."""

    host_id: HostId
    reason: str


@dataclass(frozen=True, kw_only=True)
class LoopBlocked:
    """The event loop of a host is blocked.

    Attributes:
        job_id: the job that holds it; None when it is none of the jobs, or is not known.
        seconds: for how long so far.
        where: the innermost line of the stack that is the program's own, or of all.
        stack: `file:line in function: source line`, the innermost call last; no values.
    """

    host_id: HostId
    job_id: JobId | None
    seconds: float
    where: str
    stack: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LoopFreed:
    """The event loop of a host runs again; `seconds` is how long it was blocked in all."""

    host_id: HostId
    job_id: JobId | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ReplicaReady:
    """An inference replica takes streams."""

    replica_id: ReplicaId
    group: str
    device: str


@dataclass(frozen=True, kw_only=True)
class ReplicaLost:
    """An inference replica is gone, or did not start (`was_ready` is then False)."""

    replica_id: ReplicaId
    group: str
    reason: str
    was_ready: bool = True


@dataclass(frozen=True, kw_only=True)
class CapacityChanged:
    """The dispatcher's slots and hosts after a change."""

    slots: int
    used: int
    reserved: int
    hosts: int
    idle_hosts: int
    load: float


@dataclass(frozen=True, kw_only=True)
class TurnDone:
    """One turn of a call: the user spoke and the agent answered.

    Attributes:
        number: 1 for the first turn of this generation.
        stages: seconds by stage: transcription, end_of_turn, on_user_turn_completed, llm_ttft,
            tts_ttfb, e2e. A stage that the session did not measure is absent.
        tools: names of the functions that were called, in order.
        models: model name by component (stt, llm, tts).
    """

    job_id: JobId
    room: str
    agent: str
    number: int
    stages: dict[str, float]
    tools: tuple[str, ...] = ()
    interrupted: bool = False
    models: dict[str, str] = field(default_factory=dict)
    at: float = 0.0
    """Unix seconds of the answer."""
    traceparent: str = ""


@dataclass(frozen=True, kw_only=True)
class FramesDropped:
    """Audio that a full buffer could not take. `where`: uplink, source."""

    where: str
    frames: int


@dataclass(frozen=True, kw_only=True)
class LoopLag:
    """How late an event loop ran a timer, in seconds."""

    process: str
    seconds: float


Event: TypeAlias = (
    WorkerRegistered
    | WorkerDisconnected
    | JobOffered
    | JobAnswered
    | JobPlaced
    | JobRunning
    | JobEnded
    | FailoverDone
    | TerminationIgnored
    | StopRepeated
    | ProgramChanged
    | RoomEvent
    | HostStarting
    | HostReady
    | HostStartFailed
    | HostLost
    | HostRetired
    | LoopBlocked
    | LoopFreed
    | ReplicaReady
    | ReplicaLost
    | ReplicaWaiting
    | ReplicaDraining
    | GroupResized
    | CapacityChanged
    | TurnDone
    | BatchDone
    | StreamsChanged
    | StreamFailed
    | StreamReopened
    | PhraseCacheUsed
    | FramesDropped
    | LoopLag
)


class EventSink(Protocol):
    """Takes events; never blocks and never raises."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...


class FanOut:
    """Hands each event to several sinks, in order."""

    def __init__(self, *sinks: EventSink) -> None:
        self._sinks = sinks

    def emit(self, event: Event) -> None:
        """Take one event."""
        for sink in self._sinks:
            sink.emit(event)


class NullSink:
    """Drops every event."""

    def emit(self, event: Event) -> None:
        """Take one event."""
