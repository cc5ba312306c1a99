"""What one look at a room says: which calls have no agent, and which stand-ins are of no use.

The criterion is LiveKit's own record, with what we know of our jobs: a call is unserved if none of
its dispatches ever had a job, or only jobs that were nobody's agent. A job that ended by itself,
was rejected or terminated counts: its agent left on purpose.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from voxray.base.ids import JobId
from voxray.dispatcher.origins import CallKey
from voxray.dispatcher.room_views import CallerView, DispatchRecord, JobRecord, RoomView
from voxray.dispatcher.waiting_call import Step
from voxray.dispatcher.waiting_line import WaitingLine

ROOM_JOB, PUBLISHER_JOB = 0, 1
"""LiveKit's numbers of job types; the third is the participant job."""
LOST_BEFORE_S = 30.0
"""A job that LiveKit gave away this long before we came up, that no host runs and whose agent is
not in the room, is taken for lost with the dispatcher before us. An older one may just as well have
ended on purpose; nothing tells."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """A call without an agent.

    Attributes:
        like: the dispatch that asked for it.
        since: Unix seconds from which both the dispatch and the caller were there.
    """

    like: DispatchRecord
    since: float


@dataclass(kw_only=True)
class Verdict:
    """What is to be done about a room.

    Attributes:
        unserved: the calls without an agent.
        strays: stand-ins without a job that nothing is known of; a job may still show up.
        useless: stand-ins that were given up, or whose own dispatch was deleted.
        refused: jobs that the dispatcher before us refused, beside another one of their call.
        strangers: whether an agent is there that no record of ours explains: another app's, or one
            of a job that LiveKit has still to show.
    """

    unserved: dict[CallKey, Need] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)
    refused: list[JobId] = field(default_factory=list)
    strangers: bool = False


class Judge:
    """Judges looks at rooms.

    Args:
        worker_type: LiveKit's `JobType` of the program.
        born: Unix seconds of our start.
        alone: whether no other dispatcher takes this app's jobs.
        runs: whether a job is held by us.
        ended: whether a job was held by us, and is over.
    """

    def __init__(
        self,
        line: WaitingLine,
        worker_type: Callable[[], int],
        *,
        born: float,
        alone: bool,
        runs: Callable[[JobRecord], bool],
        ended: Callable[[JobRecord], bool],
    ) -> None:
        self._line = line
        self._worker_type = worker_type
        self._born = born
        self._alone = alone
        self._runs = runs
        self._ended = ended

    def judge(self, view: RoomView) -> Verdict:
        """Return what a look at a room says."""
        known = {job.identity for record in view.dispatches for job in record.jobs}
        verdict = Verdict(strangers=not view.agents <= known)
        groups: dict[str, list[DispatchRecord]] = {}
        for record in view.dispatches:
            groups.setdefault(record.root, []).append(record)
        for root, records in groups.items():
            asked = next((each for each in records if each.dispatch_id == root), None)
            if asked is None:
                verdict.useless.extend(each.dispatch_id for each in records)
                continue
            for participant, joined_at in self._wanted(view).items():
                key = CallKey(root, participant)
                self._see_refused(key, records, verdict)
                if not self._is_served(key, records, view, verdict):
                    since = max(asked.created_at, joined_at)
                    verdict.unserved[key] = Need(like=asked, since=since)
            for record in records:
                self._judge_stand_in(record, view, verdict)
        return verdict

    def _wanted(self, view: RoomView) -> dict[str, float]:
        """Return who needs an agent of their own (or nobody by name), and since when."""
        callers: list[CallerView] = list(view.callers)
        worker_type = self._worker_type()
        if worker_type == ROOM_JOB:
            return {"": min(each.joined_at for each in callers)} if callers else {}
        if worker_type == PUBLISHER_JOB:
            callers = [each for each in callers if each.publishes]
        return {each.sid: each.joined_at for each in callers}

    def _see_refused(self, key: CallKey, records: list[DispatchRecord], verdict: Verdict) -> None:
        """Tell jobs that were refused beside another one from those that the program refused."""
        jobs = [job for each in records for job in each.jobs if job.participant == key.participant]
        if self._alone and any(job.identity for job in jobs):
            verdict.refused.extend(job.job_id for job in jobs if self._was_refused(job))

    def _was_refused(self, job: JobRecord) -> bool:
        """Return whether a job was refused for all before our start, by whomever."""
        return job.ended and not job.identity and job.started_at <= self._born

    def _is_served(
        self, key: CallKey, records: list[DispatchRecord], view: RoomView, verdict: Verdict
    ) -> bool:
        if self._line.is_live(key) or self._line.is_over(key):
            return True
        if self._line.simulated_in(view.room):
            return True
        return any(
            job.participant == key.participant
            and job.job_id not in verdict.refused
            and not self._was_nobody(job, record, view)
            for record in records
            for job in record.jobs
        )

    def _judge_stand_in(self, record: DispatchRecord, view: RoomView, verdict: Verdict) -> None:
        if record.stand_in is None:
            return
        key = record.stand_in.key
        call = self._line.get(key)
        current = call is not None and (
            call.step is Step.CREATING or call.dispatch_id == record.dispatch_id
        )
        if self._line.is_discarded(record.dispatch_id):
            verdict.useless.append(record.dispatch_id)
        elif current or self._line.is_live(key) or self._line.is_over(key):
            return
        elif all(self._was_nobody(job, record, view) for job in record.jobs):
            # Before the next attempt it has to go: a late job of it would be a second agent.
            (verdict.strays if call is None else verdict.useless).append(record.dispatch_id)

    def _was_nobody(self, job: JobRecord, record: DispatchRecord, view: RoomView) -> bool:
        """Return whether a job in the record never was, or is no more, anybody's agent."""
        line = self._line
        if self._runs(job):
            return False
        stand_in = record.stand_in
        if stand_in is not None and job.participant != stand_in.key.participant:
            # Each participant got a job of it; all but one were refused, maybe before our start.
            return True
        if line.is_void(job.job_id):
            return True
        if self._alone and stand_in is not None and self._was_refused(job):
            # As those are that come too late. If the program refused it, it is asked once more.
            return True
        if job.ended or self._ended(job) or line.is_done(job.job_id):
            return False
        lost = self._born - LOST_BEFORE_S <= job.started_at <= self._born
        return self._alone and lost and job.identity not in view.agents
