"""What a host says of its blocked event loop goes into the events and the job's story."""

from collections.abc import Sequence

from voxray.actors.contracts import LoopBlocked
from voxray.dispatcher.inputs import LoopReported
from voxray.dispatcher.state import CoreState
from voxray.observability import events as ev

STORIES = 5
"""Blocks of one job that its story tells of; a job that blocks all the time keeps its story."""
FRAMES = 4
"""Frames of the stack in a story, the innermost last."""


def report_loop(state: CoreState, item: LoopReported) -> None:
    """Take a report of a host's event loop."""
    state.dirty = False
    report = item.report
    job = state.jobs.get(report.job_id) if report.job_id is not None else None
    if isinstance(report, LoopBlocked):
        state.emit(
            ev.LoopBlocked(
                host_id=item.host_id,
                job_id=report.job_id,
                seconds=report.seconds,
                where=report.where or "an unknown place",
                stack=report.stack,
            )
        )
        if job is not None:
            job.blocks += 1
            if job.blocks <= STORIES:
                state.jobs.note(job, _blocking(report.stack), state.wall)
    else:
        state.emit(ev.LoopFreed(host_id=item.host_id, job_id=report.job_id, seconds=report.seconds))
        if job is not None and job.blocks <= STORIES:
            cause = f"blocked the event loop of its host for {report.seconds:.1f} s"
            state.jobs.note(job, cause, state.wall)


def _blocking(stack: Sequence[str]) -> str:
    calls = " > ".join(stack[-FRAMES:]) or "an unknown place"
    return f"blocks the event loop of its host, and every call there: {calls}"
