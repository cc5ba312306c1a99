"""Terminations: which of them mean the job, and which only its predecessor in the room.

When a resumed agent joins, LiveKit takes the old participant of the same identity as "agent left
the room", marks the job failed and sends a JobTermination for it, 430 ms after a kill as measured.
That one must not end what was just resumed; the room tells the difference.
"""

from dataclasses import replace

from voxray.dispatcher.commands import CheckRoom
from voxray.dispatcher.inputs import RoomAnswer, RoomChecked, Terminated
from voxray.dispatcher.jobs import UNASSIGNED, Job, JobState, RoomCheck
from voxray.dispatcher.offers import OfferDesk
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.supervisor import Supervisor
from voxray.observability import events as ev

ICE_HORIZON_S = 15.0
"""A participant whose process died leaves the room 10 s + 5 s later at the latest (LiveKit's ICE
timeouts), so a termination within this time of a re-join may mean the one that died."""
ASK_AGAIN_S = 1.0
"""Pause between two looks into the room."""
ANSWER_S = 5.0
"""How long one look may take."""
MAX_UNKNOWN = 10
"""Looks in a row that tell nothing before the job goes on: a call is not ended on a guess."""


class TerminationDesk:
    """Decides about terminations."""

    def __init__(self, state: CoreState, supervisor: Supervisor, offers: OfferDesk) -> None:
        self._state = state
        self._supervisor = supervisor
        self._offers = offers

    def terminated(self, item: Terminated) -> None:
        """LiveKit terminated a job; one that is not held (any more) needs nothing."""
        job = self._state.jobs.get(item.job_id)
        if job is None or job.stop_reason or job.check is not None:
            return
        if job.state in UNASSIGNED:
            self._offers.withdraw(job, "terminated by livekit")
        elif self._may_be_stale(job):
            self._ask(job, unknown=0)
        else:
            self._supervisor.stop(job, "terminated by livekit")

    def room_checked(self, item: RoomChecked) -> None:
        """The room was looked into."""
        job = self._state.jobs.get(item.job_id)
        if job is None or job.check is None or not job.check.asked:
            return
        match item.answer:
            case RoomAnswer.PRESENT:
                self._ignore(job, "the agent is in the room")
            case RoomAnswer.GONE:
                self._supervisor.stop(job, "terminated by livekit: the room is gone")
            case RoomAnswer.ABSENT:
                self._absent(job, job.check)
            case RoomAnswer.UNKNOWN:
                self._unknown(job, job.check)

    def expire(self, job: Job) -> None:
        """A check is due: ask again, or give up on an answer."""
        if job.check is None:
            return
        if job.check.asked:
            self._unknown(job, job.check)
        else:
            self._ask(job, unknown=job.check.unknown)

    def _may_be_stale(self, job: Job) -> bool:
        if job.state in {JobState.RESUMING, JobState.MOVING}:
            return True
        return job.rejoined_at is not None and self._state.now < job.rejoined_at + ICE_HORIZON_S

    def _ask(self, job: Job, *, unknown: int) -> None:
        state = self._state
        job.check = RoomCheck(
            generation=job.generation,
            joined=job.joined,
            due=state.now + ANSWER_S,
            asked=True,
            unknown=unknown,
        )
        identity = job.accept.identity if job.accept is not None else ""
        state.send(CheckRoom(job_id=job.job_id, room=job.room, identity=identity))

    def _absent(self, job: Job, check: RoomCheck) -> None:
        if check.joined and check.generation == job.generation and job.joined:
            self._supervisor.stop(job, "terminated by livekit: the agent is not in the room")
        else:
            # Between the old participant and the new one nobody is there; that says nothing.
            self._ask_later(job, replace(check, unknown=0))

    def _unknown(self, job: Job, check: RoomCheck) -> None:
        if check.unknown + 1 >= MAX_UNKNOWN:
            self._ignore(job, "the room could not be looked into")
        else:
            self._ask_later(job, replace(check, unknown=check.unknown + 1))

    def _ask_later(self, job: Job, check: RoomCheck) -> None:
        job.check = replace(check, asked=False, due=self._state.now + ASK_AGAIN_S)

    def _ignore(self, job: Job, because: str) -> None:
        state = self._state
        job.check = None
        state.jobs.note(job, f"termination ignored: {because}", state.wall)
        state.emit(ev.TerminationIgnored(job_id=job.job_id, generation=job.generation))
