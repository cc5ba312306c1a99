"""The jobs as a list for people: those that live, oldest first, then the last that ended."""

from dataclasses import dataclass

from voxray.base.ids import HostId, JobId
from voxray.dispatcher.job_book import JobBook
from voxray.dispatcher.jobs import JobState


@dataclass(frozen=True, kw_only=True)
class JobSummary:
    """A job in one line.

    Attributes:
        outcome: how it ended; None while it lives.
        host_id: where it runs; None without a slot.
        seconds: since its offer, or from its offer to its end.
        cause: the last thing that happened to it.
    """

    job_id: JobId
    room: str
    state: JobState
    outcome: str | None
    generation: int
    host_id: HostId | None
    seconds: float
    cause: str


def list_jobs(book: JobBook, now: float) -> tuple[JobSummary, ...]:
    """Return every job that the dispatcher knows.

    Args:
        book: where they are.
        now: monotonic seconds.
    """
    live = (
        JobSummary(
            job_id=job.job_id,
            room=job.room,
            state=job.state,
            outcome=None,
            generation=job.generation,
            host_id=job.host_id,
            seconds=now - job.offered_at,
            cause=job.story[-1].cause,
        )
        for job in book
    )
    ended = (
        JobSummary(
            job_id=job_id,
            room=job.room,
            state=JobState.ENDED,
            outcome=job.outcome.value,
            generation=job.generation,
            host_id=None,
            seconds=job.seconds,
            cause=job.story[-1].cause,
        )
        for job_id, job in book.last_ended()
    )
    return (*live, *ended)
