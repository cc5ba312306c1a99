"""Jobs: their states, the one transition table, and the story of each.

    OFFERED -> RESERVED -> STARTING -> RUNNING -> ENDED
                              |           |
                              +--> RESUMING --> RUNNING      (what ran it was lost)
                                   MOVING   --> RUNNING      (planned)

A job is OFFERED until it holds a slot, RESERVED until LiveKit assigns it, STARTING until its
agent is heard. RESUMING covers the wait for a slot and the start of the new generation.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from voxray.actors.contracts import AcceptArguments, JobPhase, PlacementCause
from voxray.base.errors import InvalidTransitionError
from voxray.base.ids import HostId, JobId
from voxray.dispatcher.capacity import Permit

STORY_LENGTH = 64
"""Entries kept of one job; the oldest go first."""
ENDED_KEPT = 1000
"""Ended jobs whose stories are kept."""


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


@dataclass(kw_only=True)
class Job:
    """One job of LiveKit, whatever runs it. Times without a unit name are monotonic seconds.

    Attributes:
        payload: serialised `livekit.Job`.
        received_at, accepted_at: Unix seconds.
        host_id, permit: the slot it holds; both or none.
        generation: placements so far.
        phase: what the present generation reported last.
        connected: whether any generation was in the room; from then on it is resumed, not begun.
        rejoined_at: when a generation after the first joined the room.
        cause: why the present generation was placed.
        asked: hosts whose `request_fnc` was asked about it so far.
        avoid: the host it was lost on; excluded until `avoid_until`, a last resort from then on.
        deadline: when the present wait (slot, answer, assignment, placement) is over.
        stop_reason: why it has to end; nothing resumes it any more.
    """

    job_id: JobId
    room: str
    payload: bytes = field(repr=False)
    received_at: float
    offered_at: float
    traceparent: str = ""
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
    rejoined_at: float | None = None
    running_told: bool = False
    cause: PlacementCause = PlacementCause.NEW
    asked: int = 0
    avoid: HostId | None = None
    avoid_until: float = 0.0
    deadline: float | None = None
    stop_reason: str = ""
    losses: deque[float] = field(default_factory=deque)
    loss: Loss | None = None
    check: RoomCheck | None = None
    story: deque[StoryEntry] = field(default_factory=lambda: deque(maxlen=STORY_LENGTH), repr=False)

    @property
    def answered(self) -> bool:
        """Whether LiveKit was told that we take it."""
        return self.accept is not None

    @property
    def joined(self) -> bool:
        """Whether the present generation is in the room."""
        return self.phase in {JobPhase.CONNECTED, JobPhase.RUNNING}


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """What is kept of a job after its end."""

    outcome: JobOutcome
    generation: int
    story: tuple[StoryEntry, ...]


class JobBook:
    """All live jobs and the last ended ones. The only place where a job's state changes."""

    def __init__(self, *, ended_kept: int = ENDED_KEPT) -> None:
        self._live: dict[JobId, Job] = {}
        self._by_host: dict[HostId, dict[JobId, Job]] = {}
        self._ended: OrderedDict[JobId, EndedJob] = OrderedDict()
        self._ended_kept = ended_kept

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self._live.values()))

    def get(self, job_id: JobId) -> Job | None:
        """Return a live job."""
        return self._live.get(job_id)

    def ended(self, job_id: JobId) -> EndedJob | None:
        """Return what is kept of an ended job."""
        return self._ended.get(job_id)

    def on_host(self, host_id: HostId) -> tuple[Job, ...]:
        """Return the jobs that hold a slot of a host, oldest placement first."""
        return tuple(self._by_host.get(host_id, {}).values())

    def open(self, job: Job, *, cause: str, at: float) -> None:
        """Take a job in. The story of an earlier, refused offer of the same job goes on."""
        if job.job_id in self._live:
            raise InvalidTransitionError(job.job_id, "can't open a job that is open")
        if (earlier := self._ended.pop(job.job_id, None)) is not None:
            job.story.extend(earlier.story)
        self._live[job.job_id] = job
        self._write(job, None, cause, at)

    def seat(self, job: Job, permit: Permit | None) -> None:
        """Record which slot a job holds."""
        if job.host_id is not None:
            seated = self._by_host[job.host_id]
            del seated[job.job_id]
            if not seated:
                del self._by_host[job.host_id]
        job.permit = permit
        job.host_id = permit.host_id if permit is not None else None
        if job.host_id is not None:
            self._by_host.setdefault(job.host_id, {})[job.job_id] = job

    def move(self, job: Job, to: JobState, *, cause: str, at: float) -> None:
        """Change a job's state.

        Raises:
            InvalidTransitionError: the table does not allow it.
        """
        if to not in TRANSITIONS[job.state]:
            story = tuple(str(entry) for entry in job.story)
            message = f"can't go from {job.state} to {to} because of: {cause}"
            raise InvalidTransitionError(job.job_id, message, story)
        before, job.state = job.state, to
        self._write(job, before, cause, at)

    def note(self, job: Job, cause: str, at: float) -> None:
        """Add a remark to a job's story."""
        self._write(job, job.state, cause, at)

    def end(self, job: Job, outcome: JobOutcome, *, cause: str, at: float) -> None:
        """End a job that holds no slot any more.

        Raises:
            InvalidTransitionError: it has ended before, or still holds a slot.
        """
        if job.permit is not None:
            raise InvalidTransitionError(job.job_id, "can't end while it holds a slot")
        self.move(job, JobState.ENDED, cause=f"{outcome}: {cause}", at=at)
        job.outcome = outcome
        job.deadline = None
        del self._live[job.job_id]
        self._ended[job.job_id] = EndedJob(
            outcome=outcome, generation=job.generation, story=tuple(job.story)
        )
        while len(self._ended) > self._ended_kept:
            self._ended.popitem(last=False)

    def story(self, job_id: JobId) -> tuple[StoryEntry, ...]:
        """Return what happened to a job, oldest first; empty for one that is not known."""
        if (job := self._live.get(job_id)) is not None:
            return tuple(job.story)
        if (ended := self._ended.get(job_id)) is not None:
            return ended.story
        return ()

    def _write(self, job: Job, before: JobState | None, cause: str, at: float) -> None:
        job.story.append(
            StoryEntry(
                at=at,
                from_state=before,
                to_state=job.state,
                cause=cause,
                host_id=job.host_id,
                generation=job.generation,
            )
        )
