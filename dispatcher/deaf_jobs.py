"""Jobs that LiveKit can't end: those whose room, or whose dispatch, is gone without our being told.

LiveKit forgets our jobs when our websocket breaks, and a job whose agent re-joined; and when a
dispatch is deleted, nobody deletes its stand-in. A room that is deleted while its agent joins comes
back for the agent, sometimes under its old id, but without its dispatches and callers. The
reconciler's looks show what we were not told.
"""

from collections.abc import Iterable

from voxray.base.ids import JobId
from voxray.dispatcher.jobs import UNASSIGNED, Job
from voxray.dispatcher.room_notes import RoomNote
from voxray.dispatcher.room_views import RoomView
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.supervisor import Supervisor


class DeafJobs:
    """Ends jobs that were seen twice to have no room, or no dispatch, any more."""

    def __init__(self, state: CoreState, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor
        self._registered_wall = state.wall
        self._roomless: set[JobId] = set()
        self._unreachable: dict[str, set[JobId]] = {}

    def registered(self) -> None:
        """A new connection: LiveKit knows none of the jobs that we hold."""
        self._registered_wall = self._state.wall

    def any_in(self, jobs: Iterable[Job], *, alone: bool) -> bool:
        """Return whether one of the jobs has to be watched; `alone`: no caller is in their room."""
        return any(self._is_deaf(job, alone=alone) for job in jobs)

    def listed(self, names: set[str], since: float) -> None:
        """Take the list of all rooms, which was asked for at `since` (monotonic seconds)."""
        missing = [
            job
            for job in self._state.jobs
            if job.room not in names and self._is_held(job) and job.offered_at < since
        ]
        for room in self._unreachable.keys() - names:
            del self._unreachable[room]
        before, self._roomless = self._roomless, {job.job_id for job in missing}
        for job in missing:
            if job.job_id in before:
                self._supervisor.stop(job, "its room is gone")

    def gone(self, note: RoomNote) -> bool:
        """Take a look that found no such room; return whether a job there has to be watched.

        LiveKit can go on listing a room that was deleted while its agent joined: the agent sits in
        it, and nobody reaches it there.
        """
        held = {
            job.job_id: job
            for job in self._state.line.live_in(note.name)
            if self._is_held(job) and job.offered_at < note.asked_at
        }
        before = self._unreachable.pop(note.name, set())
        for job_id in held.keys() & before:
            self._supervisor.stop(held[job_id], "its room is gone")
        if left := held.keys() - before:
            self._unreachable[note.name] = set(left)
        return bool(left)

    def viewed(self, note: RoomNote, view: RoomView) -> bool:
        """Take a look at a room; return whether a job there has to be watched further on."""
        self._unreachable.pop(view.room, None)
        known = {record.dispatch_id for record in view.dispatches}
        alone = not view.callers
        deaf = [
            job
            for job in self._state.line.live_in(view.room)
            if self._is_held(job)
            and self._is_deaf(job, alone=alone)
            and job.offered_at < note.asked_at
        ]
        missing = [
            job
            for job in deaf
            if job.origin.dispatch_id not in known and (alone or job.origin.room_sid == view.sid)
        ]
        before, note.missed = note.missed, {job.job_id for job in missing}
        for job in missing:
            if job.job_id in before:
                self._supervisor.stop(job, "its dispatch or its room was deleted")
        return bool(deaf)

    def _is_held(self, job: Job) -> bool:
        # A simulated job has no dispatch, and its room may be none of LiveKit's.
        assigned = job.state not in UNASSIGNED and bool(job.origin.dispatch_id)
        return assigned and not job.stop_reason

    def _is_deaf(self, job: Job, *, alone: bool) -> bool:
        if job.assignment is None or not job.origin.dispatch_id:
            return False
        early = job.assignment.at < self._registered_wall
        return alone or early or job.generation > 1 or job.origin.stand_in is not None
