"""What runs a job is watched here: reports of its generation, its loss, its resume, its end."""

from typing import Literal

from voxray.actors.contracts import JobOrder, JobPhase, JobStatus
from voxray.base.ids import HostId, JobId
from voxray.dispatcher.commands import StopJob, UpdateJob
from voxray.dispatcher.hosts import HostState
from voxray.dispatcher.inputs import JobStartFailed
from voxray.dispatcher.jobs import Assignment, Job, JobOutcome, JobState, Loss
from voxray.dispatcher.messages import origin_of
from voxray.dispatcher.placement import NO_FIT
from voxray.dispatcher.placer import Placer
from voxray.dispatcher.state import CoreState, Stage
from voxray.dispatcher.waiting_call import CallEnd
from voxray.observability import events as ev

RESUME_WAIT_S = 30.0
"""How long a job waits for a slot before it is failed: about as long as a caller would."""
STOP_AGAIN_S = 15.0
"""How long a job has to end before its host is told again; twice as long with each time, up to the
program's own limits for a shutdown."""
AVOID_S = 2.0
"""How long the host that a job failed to start on is out of the question for it."""

_RANK = {JobPhase.STARTING: 0, JobPhase.CONNECTED: 1, JobPhase.RUNNING: 2, JobPhase.ENDED: 3}

LossKind = Literal["host_died", "host_silent", "dispatcher"]


class Supervisor:
    """Keeps one generation of each assigned job running, within its resume budget.

    Generations fence: only the host that holds the job's slot is heard, and only about the
    present generation; whatever else still runs is told to stop.
    """

    def __init__(self, state: CoreState, placer: Placer) -> None:
        self._state = state
        self._placer = placer

    # Loss and resume.

    def job_lost(self, job: Job, cause: str, loss: Loss | None) -> None:
        """What ran an assigned job is gone: resume it, unless it has to end.

        Args:
            loss: the loss of its host; None when only its start failed there.
        """
        state = self._state
        job.avoid = job.host_id
        job.avoid_until = state.now + AVOID_S
        # The caller's gap counts from the first loss, if this one hits a job not yet heard again.
        job.loss = job.loss or loss
        self._placer.unseat(job)
        if job.stop_reason or state.stage in {Stage.STOPPING_JOBS, Stage.STOPPING_FLEET}:
            because = job.stop_reason or "shutting down"
            self._placer.end(job, JobOutcome.LOST, f"{cause} while it was to end ({because})")
        elif not self._within_budget(job):
            budget, window = state.settings.resume_budget, state.settings.resume_window_s
            self._placer.end(
                job, JobOutcome.FAILED, f"{cause}; lost more than {budget} times in {window:g} s"
            )
        else:
            self.wait(job, cause)

    def wait(self, job: Job, cause: str) -> None:
        """Queue an assigned job for a slot; `place_waiting` gives it one."""
        state = self._state
        if job.state is JobState.RESUMING:
            state.jobs.note(job, cause, state.wall)
        else:
            state.jobs.move(job, JobState.RESUMING, cause=cause, at=state.wall)
        job.deadline = state.now + RESUME_WAIT_S
        state.waiting[job.job_id] = None
        state.wake_at(job.avoid_until)

    def place_waiting(self) -> None:
        """Place the waiting jobs, oldest first, as far as there are slots."""
        state = self._state
        for job_id in tuple(state.waiting):
            job = state.jobs.get(job_id)
            if job is None:
                continue
            if (missing := self._placer.seat(job, urgent=True)) is None:
                del state.waiting[job_id]
                self._placer.launch(job)
                continue
            if not job.story[-1].cause.startswith(NO_FIT):
                state.jobs.note(job, missing.reason, state.wall)
            excluded = job.avoid is not None and job.avoid in state.hosts
            if not excluded or state.now >= job.avoid_until:
                # It may go anywhere and there is nowhere: the same holds for those behind it.
                return

    def expire(self, job: Job) -> None:
        """An assigned job's deadline is over: for a slot, for its end, or for the room."""
        state = self._state
        if job.job_id in state.waiting:
            reason = f"no slot within {RESUME_WAIT_S:g} s"
            self._placer.end(job, JobOutcome.FAILED, reason, CallEnd.UNSERVED)
        elif job.stop_reason and job.host_id is not None:
            state.emit(
                ev.StopRepeated(job_id=job.job_id, host_id=job.host_id, attempt=job.stops + 1)
            )
            self._stop_on_host(job, job.host_id)
        else:
            job.deadline = None
            limit_s = state.program.initialize_timeout_s
            state.jobs.note(job, f"not in its room {limit_s:g} s after its start", state.wall)

    def begin_anew(self, job: Job, cause: str) -> None:
        """End an assigned job's generation, and start the job from its beginning elsewhere."""
        if job.host_id is not None:
            self._send_stop(job.host_id, job.job_id, job.generation, cause)
        self._placer.unseat(job)
        job.connected = False
        job.begun_at = self._state.now
        self.wait(job, cause)

    def start_failed(self, item: JobStartFailed) -> None:
        """A host did not take an order."""
        job = self._owned(item.host_id, item.job_id, item.generation)
        if job is None or job.phase is not None:
            # Not its order any more; or it reported since, so that only the answer was lost.
            return
        # Whether the order arrived is not known: nothing of it may go on there.
        self._send_stop(item.host_id, item.job_id, item.generation, "superseded")
        self.job_lost(job, f"start failed: {item.reason}", None)

    def _within_budget(self, job: Job) -> bool:
        settings = self._state.settings
        job.losses.append(self._state.now)
        while job.losses[0] < self._state.now - settings.resume_window_s:
            job.losses.popleft()
        return len(job.losses) <= settings.resume_budget

    # Ends.

    def stop(self, job: Job, reason: str) -> None:
        """Make an assigned job end: its host runs its shutdown and reports the end."""
        state = self._state
        if job.stop_reason:
            return
        job.stop_reason = reason
        job.check = None
        state.jobs.note(job, f"stop: {reason}", state.wall)
        if job.host_id is None:
            self._placer.end(job, JobOutcome.LOST, f"{reason} while nothing ran it")
        else:
            self._stop_on_host(job, job.host_id)

    def give_up(self, job: Job, reason: str) -> None:
        """End an assigned job without waiting for its host, which is about to be killed."""
        self._placer.end(job, JobOutcome.LOST, reason)

    def _stop_on_host(self, job: Job, host_id: HostId) -> None:
        """Tell a job's host to end it, and again if it still runs after its time: the order may
        have been lost, and a host does nothing twice."""
        state = self._state
        self._send_stop(host_id, job.job_id, job.generation, job.stop_reason)
        program = state.program
        patience_s = program.shutdown_timeout_s + program.session_end_timeout_s
        job.deadline = state.now + min(
            max(patience_s, STOP_AGAIN_S), STOP_AGAIN_S * 2 ** min(job.stops, 10)
        )
        job.stops += 1

    def _send_stop(self, host_id: HostId, job_id: JobId, generation: int, reason: str) -> None:
        self._state.send(
            StopJob(host_id=host_id, job_id=job_id, generation=generation, reason=reason)
        )

    # Reports.

    def reported(self, host_id: HostId, status: JobStatus) -> None:
        """Take the report of a generation's phase."""
        job = self._owned(host_id, status.job_id, status.generation)
        if job is None:
            self._stale(host_id, status)
        elif job.phase is None or _RANK[status.phase] > _RANK[job.phase]:
            self._progress(job, host_id, status)

    def vanished(self, job: Job) -> None:
        """Its host lives and does not have it any more: the report of its end was lost."""
        self._placer.end(job, JobOutcome.LOST, "it ended on its host, unseen")

    def _owned(self, host_id: HostId, job_id: JobId, generation: int) -> Job | None:
        job = self._state.jobs.get(job_id)
        if job is None or job.host_id != host_id or job.generation != generation:
            return None
        return job

    def _stale(self, host_id: HostId, status: JobStatus) -> None:
        state = self._state
        state.stale_reports += 1
        host = state.hosts.get(host_id)
        alive = host is not None and host.state is not HostState.STARTING
        if status.phase is JobPhase.ENDED:
            state.line.told_end(status.job_id)
        elif alive:
            self._send_stop(host_id, status.job_id, status.generation, "superseded")

    def _progress(self, job: Job, host_id: HostId, status: JobStatus) -> None:
        state = self._state
        if status.phase is JobPhase.ENDED:
            success = status.outcome == "success"
            outcome = JobOutcome.SUCCESS if success else JobOutcome.FAILED
            self._placer.end(job, outcome, status.reason or "its life cycle is over")
            return
        joined_before = job.joined
        job.phase = status.phase
        if not job.running_told:
            job.running_told = True
            if not job.simulated:
                state.send(UpdateJob(job_id=job.job_id, status="running"))
        if job.joined and not joined_before:
            job.connected = True
            job.rejoined_at = state.now if job.generation > 1 else None
            if not job.stop_reason:
                job.deadline = None
            state.jobs.note(job, "in the room", state.wall)
        if status.phase is JobPhase.RUNNING:
            self._heard(job, host_id)

    def _heard(self, job: Job, host_id: HostId) -> None:
        state = self._state
        since = job.begun_at if job.begun_at is not None else job.offered_at
        if job.loss is not None and job.generation > 1:
            since = job.loss.last_sign
        state.jobs.move(job, JobState.RUNNING, cause="its audio is published", at=state.wall)
        state.emit(
            ev.JobRunning(
                job_id=job.job_id,
                host_id=host_id,
                generation=job.generation,
                cause=job.cause.value,
                seconds=state.now - since,
            )
        )
        self._placer.finish_failover(job, "resumed", host_id)

    # Jobs that ran before this dispatcher did.

    def adopt(self, host_id: HostId, order: JobOrder, status: JobStatus) -> None:
        """Take over a job that a host runs, as it is; the highest generation owns it."""
        state = self._state
        job = state.jobs.get(order.job_id)
        if status.phase is JobPhase.ENDED or self._owned(host_id, order.job_id, order.generation):
            self.reported(host_id, status)
        elif job is None and state.jobs.ended(order.job_id) is None:
            job = _adopted(order, status, state.now, state.wall)
            state.jobs.open(job, cause="adopted from its host", at=state.wall)
            state.line.opened(job)
            self._seat_adopted(job, host_id)
        elif job is not None and job.assignment is not None and order.generation > job.generation:
            if job.host_id is not None:
                self._send_stop(job.host_id, job.job_id, job.generation, "superseded")
            self._placer.unseat(job)
            state.waiting.pop(job.job_id, None)
            if job.state is not JobState.RESUMING:
                cause = "a host has a newer generation"
                state.jobs.move(job, JobState.RESUMING, cause=cause, at=state.wall)
            job.deadline = None
            job.generation = order.generation
            self._seat_adopted(job, host_id)
            if job.stop_reason:
                self._stop_on_host(job, host_id)
            self.reported(host_id, status)
        else:
            self._stale(host_id, status)

    def _seat_adopted(self, job: Job, host_id: HostId) -> None:
        state = self._state
        state.jobs.seat(job, state.slots.adopt(host_id, job.tenant))


def _adopted(order: JobOrder, status: JobStatus, now: float, wall: float) -> Job:
    running = status.phase is JobPhase.RUNNING
    joined = running or status.phase is JobPhase.CONNECTED
    unheard = JobState.RESUMING if order.generation > 1 else JobState.STARTING
    job = Job(
        job_id=order.job_id,
        room=order.room,
        payload=order.job,
        received_at=order.received_at,
        offered_at=now - max(0.0, wall - order.received_at),
        traceparent=order.traceparent,
        tenant=order.tenant,
        simulated=order.simulated,
        origin=origin_of(order.job),
        state=JobState.RUNNING if running else unheard,
        generation=order.generation,
        accept=order.accept,
        accepted_at=order.accepted_at,
        assignment=Assignment(url=order.url, token=order.token, at=order.assigned_at),
        phase=status.phase,
        connected=joined or order.cause.value != "new",
        running_told=True,
        cause=order.cause,
    )
    if joined and order.generation > 1:
        # It may have joined a moment ago, and the stale termination may still be on its way.
        job.rejoined_at = now - max(0.0, wall - status.changed_at)
    return job
