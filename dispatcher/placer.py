"""The four things that are done to a job wherever it is: seat, launch, unseat, end."""

from voxray.actors.contracts import JobOrder, PlacementCause
from voxray.base.errors import InvalidTransitionError
from voxray.base.ids import HostId
from voxray.dispatcher.capacity import PermitState
from voxray.dispatcher.commands import StartJob, UpdateJob
from voxray.dispatcher.jobs import Job, JobOutcome
from voxray.dispatcher.placement import NoFit
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.tenants import at_limit, tenant_limit
from voxray.dispatcher.waiting_call import CallEnd
from voxray.observability import events as ev


class Placer:
    """Gives slots to jobs and takes them back."""

    def __init__(self, state: CoreState) -> None:
        self._state = state

    def seat(self, job: Job, *, urgent: bool = False) -> NoFit | None:
        """Reserve a slot for a job; return why that is not possible now.

        The limit of its tenant holds until LiveKit was told that we take the job.

        Args:
            urgent: a caller waits in the room already.
        """
        state = self._state
        if not job.answered and (refusal := self._at_tenant_limit(job)) is not None:
            return refusal
        chosen = state.index.choose(
            exclude=job.avoid if state.now < job.avoid_until else None,
            avoid=job.avoid,
            urgent=urgent,
        )
        if isinstance(chosen, NoFit):
            return chosen
        state.jobs.seat(job, state.slots.reserve(chosen, job.tenant))
        return None

    def unseat(self, job: Job) -> None:
        """Give a job's slot back, if it holds one."""
        state = self._state
        if job.permit is None:
            return
        host_id, begun = job.permit.host_id, job.permit.state is PermitState.USED
        state.slots.release(job.permit)
        state.jobs.seat(job, None)
        job.phase = None
        host = state.hosts.get(host_id)
        if host is not None and host.single_use and begun:
            state.hosts.spend(host)

    def launch(self, job: Job) -> None:
        """Start the next generation of an assigned job on the host where it has a slot.

        A job that was never in its room is begun, not resumed, whatever its generation: nobody
        has heard its greeting yet.
        """
        state = self._state
        if job.permit is None or job.assignment is None or job.accept is None:
            raise InvalidTransitionError(job.job_id, "can't start without a slot and an assignment")
        state.slots.use(job.permit)
        job.generation += 1
        job.phase = None
        # Nothing is done when it is over, stock waits too; but its story shall say so.
        job.deadline = state.now + state.program.initialize_timeout_s
        job.cause = cause = PlacementCause.RESUME if job.connected else PlacementCause.NEW
        order = JobOrder(
            job_id=job.job_id,
            generation=job.generation,
            cause=cause,
            room=job.room,
            job=job.payload,
            url=job.assignment.url,
            token=job.assignment.token,
            accept=job.accept,
            worker_id=state.worker_id,
            received_at=job.received_at,
            accepted_at=job.accepted_at,
            assigned_at=job.assignment.at,
            traceparent=job.traceparent,
            tenant=job.tenant,
            simulated=job.simulated,
        )
        state.jobs.note(job, f"placed ({cause})", state.wall)
        state.line.launched(job, state.wall)
        host_id = job.permit.host_id
        state.send(StartJob(host_id=host_id, order=order, resign_token=job.generation > 1))
        state.emit(
            ev.JobPlaced(
                job_id=job.job_id, host_id=host_id, generation=job.generation, cause=cause.value
            )
        )

    def _at_tenant_limit(self, job: Job) -> NoFit | None:
        limit = tenant_limit(job.tenant, self._state.settings)
        if limit is None or self._state.slots.of_tenant(job.tenant) < limit:
            return None
        return NoFit(reason=at_limit(job.tenant, limit), tenant_limit=True)

    def end(self, job: Job, outcome: JobOutcome, reason: str, call: CallEnd = CallEnd.OVER) -> None:
        """End a job: its slot is free, LiveKit is told, its story is kept.

        Args:
            call: what it means for the caller.
        """
        state = self._state
        host_id = job.host_id
        self.unseat(job)
        state.waiting.pop(job.job_id, None)
        state.held.pop(job.job_id, None)
        state.jobs.end(job, outcome, cause=reason, at=state.wall)
        state.line.ended(job, call, state.now, state.wall)
        if job.assignment is not None and not job.simulated:
            success = outcome is JobOutcome.SUCCESS
            update = UpdateJob(
                job_id=job.job_id,
                status="success" if success else "failed",
                error="" if success else reason,
            )
            # LiveKit may be about to terminate it, because its agent left; that call then finds
            # nobody, and disturbs no other one (told late or at once: benchmarks/handover.py).
            state.send(update)
        state.emit(
            ev.JobEnded(
                job_id=job.job_id,
                outcome=outcome.value,
                reason=reason,
                seconds=state.now - job.offered_at,
            )
        )
        # It ended before the new generation was heard.
        result = "ended" if outcome is JobOutcome.SUCCESS else "failed"
        self.finish_failover(job, result, host_id)

    def finish_failover(self, job: Job, outcome: str, to_host: HostId | None) -> None:
        """Report what became of a job whose host was lost, if it was."""
        state = self._state
        if job.loss is None:
            return
        state.emit(
            ev.FailoverDone(
                job_id=job.job_id,
                kind=job.loss.kind,
                outcome=outcome,
                from_host=job.loss.from_host,
                to_host=to_host,
                generation=job.generation,
                detection_s=max(0.0, job.loss.detected_at - job.loss.last_sign),
                gap_s=max(0.0, state.now - job.loss.last_sign),
                traceparent=job.traceparent,
            )
        )
        job.loss = None
