"""All jobs: which are live, where they sit, whose time comes next, and how the last ones ended."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from voxray.base.errors import InvalidTransitionError
from voxray.base.ids import HostId, JobId
from voxray.dispatcher.capacity import Permit
from voxray.dispatcher.jobs import (
    TRANSITIONS,
    UNASSIGNED,
    Job,
    JobOutcome,
    JobState,
    StoryEntry,
)
from voxray.dispatcher.ranked import Ranked

ENDED_KEPT = 1000
"""Ended jobs whose stories are kept."""


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """What is kept of a job after its end. `seconds`: from its offer to its end."""

    outcome: JobOutcome
    generation: int
    story: tuple[StoryEntry, ...]
    room: str = ""
    seconds: float = 0.0


class JobBook:
    """All live jobs and the last ended ones. The only place where a job's state changes."""

    def __init__(self, *, ended_kept: int = ENDED_KEPT) -> None:
        self._live: dict[JobId, Job] = {}
        self._by_host: dict[HostId, dict[JobId, Job]] = {}
        self._timers: Ranked[JobId, float] = Ranked()
        self._unassigned = 0
        self._ended: OrderedDict[JobId, EndedJob] = OrderedDict()
        self._ended_kept = ended_kept

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self._live.values()))

    @property
    def assigned(self) -> int:
        """How many jobs LiveKit has given us."""
        return len(self._live) - self._unassigned

    def due(self, now: float) -> list[Job]:
        """Return the jobs whose time has come, and look at their time again from `rewatch`."""
        return [self._live[job_id] for job_id in self._timers.take_until(now)]

    def rewatch(self, job: Job) -> None:
        """Follow the time of a job that was due."""
        if job.job_id in self._live:
            self._retime(job)

    def next_due(self) -> float | None:
        """Return when the time of the next job comes."""
        first = self._timers.first()
        return first[0] if first is not None else None

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
        self._unassigned += job.state in UNASSIGNED
        job.on_timer = self._retime
        self._retime(job)
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
        self._unassigned += (to in UNASSIGNED) - (before in UNASSIGNED)
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
        job.on_timer = lambda _: None
        job.deadline = None
        self._timers.drop(job.job_id)
        del self._live[job.job_id]
        self._ended[job.job_id] = EndedJob(
            outcome=outcome,
            generation=job.generation,
            story=tuple(job.story),
            room=job.room,
            seconds=max(0.0, at - job.received_at),
        )
        while len(self._ended) > self._ended_kept:
            self._ended.popitem(last=False)

    def last_ended(self) -> Iterator[tuple[JobId, EndedJob]]:
        """Yield the ended jobs that are kept, the last first."""
        return iter(reversed(self._ended.items()))

    def story(self, job_id: JobId) -> tuple[StoryEntry, ...]:
        """Return what happened to a job, oldest first; empty for one that is not known."""
        if (job := self._live.get(job_id)) is not None:
            return tuple(job.story)
        if (ended := self._ended.get(job_id)) is not None:
            return ended.story
        return ()

    def _retime(self, job: Job) -> None:
        if (due := job.due) is None:
            self._timers.drop(job.job_id)
        else:
            self._timers.put(job.job_id, due)

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
