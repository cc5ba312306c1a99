"""Simulated jobs: begun by us in a room of somebody's choice, unknown to LiveKit's dispatch."""

from voxray.actors.contracts import AcceptArguments
from voxray.dispatcher.inputs import Simulated
from voxray.dispatcher.jobs import Assignment, Job, JobOutcome, JobState
from voxray.dispatcher.placer import Placer
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.supervisor import Supervisor
from voxray.dispatcher.waiting_call import Step
from voxray.observability import events as ev


class SimulationDesk:
    """Takes simulated jobs in: a slot as for any other, no offer, no answer, no status to LiveKit.

    From its start on it is a job like the others: watched, resumed, drained, in the listings.
    """

    def __init__(self, state: CoreState, placer: Placer, supervisor: Supervisor) -> None:
        self._state = state
        self._placer = placer
        self._supervisor = supervisor

    def handle(self, item: Simulated) -> None:
        """Start a job, or let it wait for a slot."""
        state = self._state
        if state.jobs.get(item.job_id) is not None:
            return
        job = Job(
            job_id=item.job_id,
            room=item.room,
            payload=item.job,
            received_at=state.wall,
            offered_at=state.now,
            simulated=True,
        )
        state.emit(ev.JobOffered(job_id=item.job_id, room=item.room))
        state.jobs.open(job, cause="simulated", at=state.wall)
        state.line.opened(job)
        self._serve_no_other(item.room)
        if not state.accepting:
            self._placer.end(job, JobOutcome.REJECTED, "draining")
            return
        job.accept = AcceptArguments(identity=item.identity)
        job.accepted_at = state.wall
        job.assignment = Assignment(url=item.url, token=item.token, at=state.wall)
        missing = self._placer.seat(job)
        cause = "slot reserved" if missing is None else missing.reason
        state.jobs.move(job, JobState.RESERVED, cause=cause, at=state.wall)
        state.jobs.move(job, JobState.STARTING, cause="simulated", at=state.wall)
        if missing is None:
            self._placer.launch(job)
        else:
            self._supervisor.wait(job, missing.reason)

    def _serve_no_other(self, room: str) -> None:
        """Give the room's waiting calls up: this job is their agent, a second one is not wanted."""
        line = self._state.line
        for call in line.in_room(room):
            if call.step is Step.PLACING:
                continue
            if call.dispatch_id:
                line.discard(call.dispatch_id)
            line.give_up(call, "elsewhere")
