"""Jobs: their states, the one transition table, and the story of each.

    OFFERED -> RESERVED -> STARTING -> RUNNING -> ENDED
                              |           |
                              +--> RESUMING --> RUNNING      (what ran it was lost)
                                   MOVING   --> RUNNING      (planned)

A job is OFFERED until it holds a slot, RESERVED until LiveKit assigns it, STARTING until its
agent is heard. RESUMING covers the wait for a slot and the start of the new generation.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from voxray.actors.contracts import AcceptArguments, JobPhase, PlacementCause
from voxray.base.ids import HostId, JobId
from voxray.dispatcher.capacity import Permit
from voxray.dispatcher.origins import NO_CALL, JobOrigin

STORY_LENGTH = 64
"""Entries kept of one job; the oldest go first."""


class JobState(StrEnum):
    """Where a job is, as the dispatcher sees it."""

    OFFERED = "offered"
    RESERVED = "reserved"
    STARTING = "starting"
    RUNNING = "running"
    RESUMING = "resuming"
    MOVING = "moving"
    ENDED = "ended"


class JobOutcome(StrEnum):
    """How a job ended. LOST: its life cycle could not be run to the end."""

    SUCCESS = "success"
    FAILED = "failed"
    REJECTED = "rejected"
    LOST = "lost"


_S = JobState
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _S.OFFERED: frozenset({_S.RESERVED, _S.ENDED}),
    # Back to OFFERED when the host that was being asked is lost before an answer went out.
    _S.RESERVED: frozenset({_S.OFFERED, _S.STARTING, _S.ENDED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.RESUMING, _S.ENDED}),
    _S.RUNNING: frozenset({_S.RESUMING, _S.MOVING, _S.ENDED}),
    _S.RESUMING: frozenset({_S.RUNNING, _S.ENDED}),
    _S.MOVING: frozenset({_S.RUNNING, _S.RESUMING, _S.ENDED}),
    _S.ENDED: frozenset(),
}

UNASSIGNED = frozenset({JobState.OFFERED, JobState.RESERVED})
"""States in which LiveKit has not given us the job yet."""


@dataclass(frozen=True, kw_only=True)
class StoryEntry:
    """One thing that happened to a job. `at` is Unix seconds; equal states mean a remark."""

    at: float
    from_state: JobState | None
    to_state: JobState
    cause: str
    host_id: HostId | None
    generation: int

    def __str__(self) -> str:
        start = self.from_state.value if self.from_state is not None else "-"
        host = f" host {self.host_id}" if self.host_id is not None else ""
        return f"{self.at:.3f} {start}->{self.to_state} g{self.generation}{host}: {self.cause}"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What LiveKit gave with a job. `at` is Unix seconds."""

    url: str
    token: str = field(repr=False)
    at: float


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What took a job from its host; kept until the job is heard again, or ended.

    Attributes:
        kind: as in `FailoverDone`.
        last_sign: monotonic time of the host's last report.
        detected_at: monotonic time at which the loss was known.
    """

    kind: str
    from_host: HostId
    last_sign: float
    detected_at: float


@dataclass(frozen=True, kw_only=True)
class RoomCheck:
    """A look into the room that a termination asked for.

    Attributes:
        generation: the job's generation when the question was put.
        joined: whether that generation was in the room by then.
        due: monotonic time of the next question, or of giving up on the answer.
        asked: whether an answer is awaited.
        unknown: answers in a row that said nothing.
    """

    generation: int
    joined: bool
    due: float
    asked: bool
    unknown: int = 0


@dataclass(kw_only=True, eq=False)
class Job:
    """One job of LiveKit, whatever runs it. Times without a unit name are monotonic seconds.

    Attributes:
        payload: serialised `livekit.Job`.
        origin: which call it is for.
        received_at, accepted_at: Unix seconds.
        tenant: whose call it is, or empty.
        simulated: begun by us; LiveKit's dispatch knows nothing of it.
        host_id, permit: the slot it holds; both or none.
        generation: placements so far.
        phase: what the present generation reported last.
        connected: whether any generation was in the room; from then on it is resumed, not begun.
        begun_at: when it was begun anew; None for one that began once.
        rejoined_at: when a generation after the first joined the room.
        cause: why the present generation was placed.
        asked: hosts whose `request_fnc` was asked about it so far.
        avoid: the host it was lost on; excluded until `avoid_until`, a last resort from then on.
        stop_reason: why it has to end; nothing resumes it any more.
        stops: how often its host was told to end it.
        on_timer: told of a change of its deadline or its check.
        blocks: how often it blocked the event loop of its host.
    """

    job_id: JobId
    room: str
    payload: bytes = field(repr=False)
    received_at: float
    offered_at: float
    traceparent: str = ""
    tenant: str = ""
    simulated: bool = False
    origin: JobOrigin = NO_CALL
    state: JobState = JobState.OFFERED
    outcome: JobOutcome | None = None
    host_id: HostId | None = None
    permit: Permit | None = None
    generation: int = 0
    accept: AcceptArguments | None = None
    accepted_at: float = 0.0
    assignment: Assignment | None = None
    phase: JobPhase | None = None
    connected: bool = False
    begun_at: float | None = None
    rejoined_at: float | None = None
    running_told: bool = False
    cause: PlacementCause = PlacementCause.NEW
    asked: int = 0
    avoid: HostId | None = None
    avoid_until: float = 0.0
    stop_reason: str = ""
    stops: int = 0
    blocks: int = 0
    losses: deque[float] = field(default_factory=deque)
    loss: Loss | None = None
    on_timer: Callable[["Job"], None] = field(default=lambda _: None, repr=False)
    _deadline: float | None = field(default=None, init=False)
    _check: RoomCheck | None = field(default=None, init=False)
    story: deque[StoryEntry] = field(default_factory=lambda: deque(maxlen=STORY_LENGTH), repr=False)

    @property
    def deadline(self) -> float | None:
        """When the present wait (slot, answer, assignment, placement, room, end) is over."""
        return self._deadline

    @deadline.setter
    def deadline(self, at: float | None) -> None:
        self._deadline = at
        self.on_timer(self)

    @property
    def check(self) -> RoomCheck | None:
        """The look into the room that is under way."""
        return self._check

    @check.setter
    def check(self, check: RoomCheck | None) -> None:
        self._check = check
        self.on_timer(self)

    @property
    def due(self) -> float | None:
        """When time alone changes something about it."""
        if self._check is None:
            return self._deadline
        return self._check.due if self._deadline is None else min(self._deadline, self._check.due)

    @property
    def answered(self) -> bool:
        """Whether LiveKit was told that we take it."""
        return self.accept is not None

    @property
    def joined(self) -> bool:
        """Whether the present generation is in the room."""
        return self.phase in {JobPhase.CONNECTED, JobPhase.RUNNING}
