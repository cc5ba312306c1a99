"""Offers: each is answered exactly once and in time, and only with a slot in hand."""

from typing import assert_never

from voxray.actors.contracts import AcceptArguments
from voxray.base.ids import HostId, JobId
from voxray.dispatcher.commands import AnswerAvailability, RunRequest, UpdateJob
from voxray.dispatcher.inputs import Assigned, Offered, OfferInput, RequestAnswered, RequestFailed
from voxray.dispatcher.jobs import UNASSIGNED, Assignment, Job, JobOutcome, JobState
from voxray.dispatcher.placement import NoFit
from voxray.dispatcher.placer import Placer
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.supervisor import Supervisor
from voxray.dispatcher.tenants import tenant_of
from voxray.dispatcher.waiting_call import CallEnd
from voxray.observability import events as ev

ANSWER_S = 2.5
"""By then every offer is answered: LiveKit drops the job after 3 s."""
REQUEST_S = 2.0
"""How long the program's `request_fnc` may take."""
HOLD_S = 1.5
"""How long an offer waits for a starting host; the rest is for `request_fnc` and the way back."""
MAX_ASKED = 3
"""Hosts that are asked about one offer, if one after the other is lost."""
ASSIGNMENT_S = 7.5
"""How long we wait for the assignment after saying yes (`ASSIGNMENT_TIMEOUT` of livekit-agents)."""


QUEUED = "calls that wait have the free slots"
"""Why an offer gets none of the free slots."""
_MEANING = {
    "full": CallEnd.UNSERVED,
    "tenant_limit": CallEnd.UNSERVED,
    "error": CallEnd.FAULT,
    "rejected": CallEnd.OVER,
    "duplicate": CallEnd.ASIDE,
    "draining": CallEnd.ASIDE,
}


class OfferDesk:
    """Takes jobs from the offer to the assignment.

    A job of ours is OFFERED while it is held for a starting host, and RESERVED from then on:
    unanswered while `request_fnc` runs, answered while the assignment is awaited.
    """

    def __init__(self, state: CoreState, placer: Placer, supervisor: Supervisor) -> None:
        self._state = state
        self._placer = placer
        self._supervisor = supervisor

    def handle(self, item: OfferInput) -> None:
        """Take one input about an offer."""
        match item:
            case Offered():
                self._offered(item)
            case RequestAnswered():
                self._request_answered(item)
            case RequestFailed():
                if (job := self._asked(item.job_id, item.host_id)) is not None:
                    job.avoid = item.host_id
                    job.avoid_until = job.offered_at + ANSWER_S
                    self._ask_elsewhere(job, f"could not ask the host: {item.reason}")
            case Assigned():
                self._assigned(item)
            case _ as never:
                assert_never(never)

    def expire(self, job: Job) -> None:
        """The job's deadline is over: no slot, no answer or no assignment came."""
        if job.state is JobState.OFFERED:
            self._refuse(job, "full", "no host was ready in time")
        elif not job.answered:
            self._refuse(job, "error", f"request_fnc gave no answer within {REQUEST_S} s")
        else:
            reason = f"no assignment within {ASSIGNMENT_S} s of our answer"
            self._placer.end(job, JobOutcome.REJECTED, reason, CallEnd.UNSERVED)

    def host_lost(self, job: Job) -> None:
        """A job that is not assigned yet lost the host of its slot."""
        if not job.answered:
            self._ask_elsewhere(job, "its host was lost")
            return
        self._placer.unseat(job)
        missing = self._placer.seat(job)
        cause = missing.reason if missing is not None else "reserved elsewhere"
        self._state.jobs.note(job, f"its host was lost: {cause}", self._state.wall)

    def withdraw(self, job: Job, reason: str) -> None:
        """Forget a job that LiveKit took back before assigning it."""
        if job.answered:
            self._placer.end(job, JobOutcome.REJECTED, reason)
        else:
            self._refuse(job, "error", reason, call=CallEnd.OVER)

    def disconnected(self) -> None:
        """The websocket broke: LiveKit offers what was not assigned to somebody else."""
        for job in self._unassigned():
            reason = "the connection to livekit broke"
            self._placer.end(job, JobOutcome.REJECTED, reason, CallEnd.UNSERVED)

    def refuse_all(self) -> None:
        """A drain begins: refuse what is not answered yet; what was promised is kept."""
        for job in self._unassigned():
            if not job.answered:
                self._refuse(job, "draining", "draining")

    def serve_held(self) -> None:
        """Serve the offers that are held, as far as there are slots now."""
        for job_id in tuple(self._state.held):
            job = self._state.jobs.get(job_id)
            if job is None or not self._reserve(job):
                return

    def _unassigned(self) -> list[Job]:
        return [job for job in self._state.jobs if job.state in UNASSIGNED]

    def _offered(self, item: Offered) -> None:
        state = self._state
        state.emit(ev.JobOffered(job_id=item.job_id, room=item.room))
        if (known := state.jobs.get(item.job_id)) is not None:
            self._offered_again(known)
            return
        ended = state.jobs.ended(item.job_id)
        if ended is not None and ended.generation:
            # It ran here and is over; a second life would be a second agent for the same call.
            state.send(AnswerAvailability(job_id=item.job_id, accept=None))
            return
        state.demand.offered(state.now)
        job = Job(
            job_id=item.job_id,
            room=item.room,
            payload=item.job,
            received_at=item.received_at,
            offered_at=state.now,
            traceparent=item.traceparent,
            tenant=tenant_of(item.metadata, state.settings.tenant_key),
            origin=item.origin,
        )
        wanted = state.line.wanted(job.origin, job.room)
        state.jobs.open(job, cause="offered", at=state.wall)
        state.line.opened(job, wanted=wanted)
        if not wanted:
            # Another worker must not take it either.
            self._refuse(job, "duplicate", "its call has an agent or needs none", terminate=True)
        elif not state.accepting:
            self._refuse(job, "draining", "draining")
        elif not self._reserve(job):
            self._hold_or_refuse(job)
        else:
            state.patient = job.permit is not None

    def _offered_again(self, job: Job) -> None:
        if job.state is JobState.RESERVED and job.answered:
            self._state.send(AnswerAvailability(job_id=job.job_id, accept=job.accept))
        elif job.answered:
            self._state.send(AnswerAvailability(job_id=job.job_id, accept=None))
        # Otherwise the answer to the first offer is under way and serves both.

    def _reserve(self, job: Job) -> bool:
        """Reserve a slot and ask the program, or answer at once.

        Returns:
            False when the job still needs a slot; a job of a tenant at its limit is refused.
        """
        state = self._state
        missing: NoFit | None = NoFit(reason=QUEUED)
        if state.line.admits(job.origin.key, job.tenant, state.free_slots(), state.now):
            missing = self._placer.seat(job)
        if missing is not None:
            if missing.tenant_limit:
                self._refuse(job, "tenant_limit", missing.reason)
                return True
            if job.job_id not in state.held:
                state.jobs.note(job, missing.reason, state.wall)
            return False
        state.held.pop(job.job_id, None)
        state.jobs.move(job, JobState.RESERVED, cause="slot reserved", at=state.wall)
        if state.program.has_request_fnc and job.host_id is not None:
            job.asked += 1
            job.deadline = min(state.now + REQUEST_S, job.offered_at + ANSWER_S)
            state.send(
                RunRequest(
                    host_id=job.host_id,
                    job_id=job.job_id,
                    job=job.payload,
                    timeout_s=max(0.0, job.deadline - state.now),
                )
            )
        else:
            self._accept(job, AcceptArguments(identity=_default_identity(job.job_id)))
        return True

    def _hold_or_refuse(self, job: Job) -> None:
        state = self._state
        until = job.offered_at + HOLD_S
        coming = state.hosts.ready_soon(state.now, until - state.now)
        ahead = len(state.waiting) + len(state.held) + state.line.claims(state.now)
        expected = coming * state.settings.slots_per_host - ahead
        if state.now < until and expected > 0:
            state.held[job.job_id] = None
            job.deadline = until
        else:
            self._refuse(job, "full", state.jobs.story(job.job_id)[-1].cause)

    def _asked(self, job_id: JobId, host_id: HostId) -> Job | None:
        """Return the job if this very host is still being asked about it."""
        job = self._state.jobs.get(job_id)
        if job is None or job.state is not JobState.RESERVED or job.answered:
            return None
        return job if job.host_id == host_id else None

    def _request_answered(self, item: RequestAnswered) -> None:
        job = self._asked(item.job_id, item.host_id)
        if job is None:
            return
        accept = item.answer.accept
        if accept is None:
            outcome = "error" if item.answer.error else "rejected"
            reason = item.answer.error or "the program rejected it"
            self._refuse(job, outcome, reason, terminate=item.answer.terminate)
            return
        if not accept.identity:
            accept = accept.model_copy(update={"identity": _default_identity(job.job_id)})
        self._accept(job, accept)
        self._state.patient = True

    def _ask_elsewhere(self, job: Job, reason: str) -> None:
        state = self._state
        self._placer.unseat(job)
        state.jobs.move(job, JobState.OFFERED, cause=reason, at=state.wall)
        job.deadline = None
        if job.asked >= MAX_ASKED:
            self._refuse(job, "error", reason)
        elif not self._reserve(job):
            self._hold_or_refuse(job)

    def _accept(self, job: Job, accept: AcceptArguments) -> None:
        state = self._state
        job.accept = accept
        job.accepted_at = state.wall
        job.deadline = state.now + ASSIGNMENT_S
        state.jobs.note(job, "accepted", state.wall)
        self._answer(job, "accepted")

    def _refuse(
        self,
        job: Job,
        outcome: str,
        reason: str,
        *,
        terminate: bool = False,
        call: CallEnd | None = None,
    ) -> None:
        self._answer(job, outcome, terminate=terminate)
        self._placer.end(job, JobOutcome.REJECTED, reason, call or _MEANING[outcome])

    def _answer(self, job: Job, outcome: str, *, terminate: bool = False) -> None:
        state = self._state
        state.send(AnswerAvailability(job_id=job.job_id, accept=job.accept, terminate=terminate))
        state.emit(
            ev.JobAnswered(job_id=job.job_id, outcome=outcome, seconds=state.now - job.offered_at)
        )

    def _assigned(self, item: Assigned) -> None:
        state = self._state
        job = state.jobs.get(item.job_id)
        if job is None:
            ended = state.jobs.ended(item.job_id)
            if ended is None or ended.outcome is JobOutcome.REJECTED:
                # Too late, the slot is given away: LiveKit must not believe that we serve it.
                state.send(
                    UpdateJob(job_id=item.job_id, status="failed", error="assigned too late")
                )
            return
        if job.state is not JobState.RESERVED or not job.answered:
            return
        job.assignment = Assignment(url=item.url, token=item.token, at=state.wall)
        job.deadline = None
        state.jobs.move(job, JobState.STARTING, cause="assigned", at=state.wall)
        if job.permit is not None:
            self._placer.launch(job)
            state.patient = True
        else:
            self._supervisor.wait(job, "its slot was lost before the assignment")


def _default_identity(job_id: JobId) -> str:
    """Return the identity that livekit-agents gives when the program names none."""
    return f"agent-{job_id}"
