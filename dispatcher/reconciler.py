"""The reconciler: finds rooms whose callers have no agent, and gets them one, in order.

LiveKit asks once for each job and never again; what came while we were full, down or restarting,
or what the server lost, is found by looking. A call is served by a stand-in, a new dispatch like
the one that got no job: LiveKit then asks again, for a slot that is kept free for it. One attempt
at a time for each call; an attempt without an offer is deleted before the next, so that no late
job of it becomes a second agent.
"""

from typing import assert_never

from voxray.base.settings import ReconcilerSettings
from voxray.dispatcher.attempts import ANSWER_S, Attempts
from voxray.dispatcher.commands import ListRooms
from voxray.dispatcher.deaf_jobs import DeafJobs
from voxray.dispatcher.inputs import DispatchCreated, RoomsListed, RoomViewed, SurveyInput
from voxray.dispatcher.origins import CallKey
from voxray.dispatcher.room_notes import DEAF_S, RoomNote, RoomNotes, TokenBucket
from voxray.dispatcher.room_views import JobRecord, RoomView
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.supervisor import Supervisor
from voxray.dispatcher.tenants import tenant_limit, tenant_of
from voxray.dispatcher.verdicts import ROOM_JOB, Judge, Need, Verdict
from voxray.dispatcher.waiting_call import Step, WaitingCall
from voxray.observability.room_events import RoomsWaiting

LATE_RECORD_S = 8.0
"""LiveKit shows a job in its dispatch's record up to this much later: 5 s in which it asks which
agents there are, and 3 s for the answer to the offer."""
QUICK_S = 1.0
"""Pause before the second and third list after a registration: the server can miss a fresh worker
for some milliseconds."""
QUICK_LISTS = 2


class Reconciler:
    """Decides when to look where, and which dispatch to create or delete.

    Args:
        state: shared with the core's other parts.
        supervisor: ends jobs.
        settings: how often to look, and how much at most.
        alone: whether no other dispatcher takes this app's jobs.
    """

    def __init__(
        self,
        state: CoreState,
        supervisor: Supervisor,
        settings: ReconcilerSettings,
        *,
        alone: bool = True,
    ) -> None:
        self._state = state
        self._deaf = DeafJobs(state, supervisor)
        self._settings = settings
        self._line = state.line
        self._line.enabled = settings.enabled
        self._line.maker = f"{round(state.wall * 1000):x}"
        self._line.tenant_room = self._tenant_room
        self._alone = alone
        self._settle_s = settings.settle_s if alone else max(settings.settle_s, LATE_RECORD_S)
        self._judge = Judge(
            state.line,
            lambda: state.program.worker_type,
            born=state.wall,
            alone=alone,
            runs=self._runs,
            ended=self._ended,
        )
        self._notes = RoomNotes(settings.interval_s)
        self._bucket = TokenBucket(settings.rate, state.now)
        self._attempts = Attempts(state, self._notes, self._bucket)
        self._list_at = state.now
        self._listing_since: float | None = None
        self._quick = 0
        self._adopted = False
        self._told_waiting = 0

    # What the core hands in.

    def handle(self, item: SurveyInput) -> None:
        """Take an answer of LiveKit's."""
        match item:
            case RoomsListed():
                self._listed(item)
            case RoomViewed():
                self._viewed(item)
            case DispatchCreated():
                self._attempts.created(item)
            case _ as never:
                assert_never(never)

    def registered(self) -> None:
        """We are registered (again): look at once, and again shortly after."""
        self._deaf.registered()
        self._quick = QUICK_LISTS
        self._listing_since = None
        self._list_at = self._state.now
        self._notes.look_anew()

    def settle(self) -> None:
        """Do what is due; free slots go to those who wait."""
        state = self._state
        for event in self._line.take_news():
            state.emit(event)
        if self._active():
            self._bucket.starved = False
            self._attempts.expire()
            self._list()
            self._attempts.serve()
            self._look()
            for event in self._line.take_news():
                state.emit(event)
        if len(self._line) != self._told_waiting:
            self._told_waiting = len(self._line)
            state.emit(RoomsWaiting(count=self._told_waiting))

    def next_deadline(self) -> float | None:
        """Return when time alone changes something here."""
        if not self._active():
            return None
        since = self._listing_since
        times = [self._list_at if since is None else since + ANSWER_S, self._line.due.next()]
        starved = self._bucket.starved
        times.append(self._bucket.next_at() if starved else self._notes.due.next())
        return min(time for time in times if time is not None)

    def _active(self) -> bool:
        """Whether we may look: what earlier hosts run has to be known first."""
        state = self._state
        if not (self._settings.enabled and state.registered and state.accepting):
            return False
        if not self._adopted:
            self._adopted = state.adopted
        return self._adopted

    # All rooms.

    def _list(self) -> None:
        now = self._state.now
        if self._listing_since is not None and now < self._listing_since + ANSWER_S:
            return
        if self._listing_since is None and now < self._list_at:
            return
        self._listing_since = now
        self._state.send(ListRooms())

    def _listed(self, item: RoomsListed) -> None:
        now, since = self._state.now, self._listing_since
        if since is None:
            return
        self._listing_since = None
        pause = QUICK_S if self._quick else self._settings.interval_s
        self._quick = max(0, self._quick - 1)
        self._list_at = now + pause
        if item.rooms is None:
            return
        for listing in item.rooms:
            jobs = self._line.live_in(listing.name)
            waits = bool(self._line.in_room(listing.name))
            alone = self._notes.is_empty(listing, now)
            deaf = self._deaf.any_in(jobs, alone=alone)
            live = bool(jobs) and self._state.program.worker_type == ROOM_JOB
            self._notes.listed(listing, now, live=live, deaf=deaf, waits=waits)
        names = {listing.name for listing in item.rooms}
        self._notes.forget_others(names, since)
        for call in self._line:
            gone = call.room not in names and call.queued_at < since
            if gone and call.step is Step.WAITING:
                self._line.give_up(call, "left")
        self._deaf.listed(names, since)

    # One room.

    def _look(self) -> None:
        now = self._state.now
        for note in self._notes.pop_due(now):
            if not self._bucket.take(now):
                self._notes.due.set(note.name, now)
                return
            self._attempts.look(note)

    def _viewed(self, item: RoomViewed) -> None:
        note = self._notes.get(item.room)
        if note is None or not note.asking:
            return
        note.asking = False
        now = self._state.now
        if item.gone:
            for call in self._line.in_room(item.room):
                if call.step is Step.WAITING and call.queued_at <= note.asked_at:
                    self._line.give_up(call, "left")
            if self._deaf.gone(note):
                self._notes.due.set(note.name, now + DEAF_S)
            else:
                self._notes.drop(note.name)
        elif item.view is None:
            self._notes.due.set(note.name, now + self._settings.interval_s)
        else:
            note.viewed_at = note.asked_at
            self._judged(note, item.view, self._judge.judge(item.view))

    def _judged(self, note: RoomNote, view: RoomView, verdict: Verdict) -> None:
        now = self._state.now
        # The agent of a host that died with the dispatcher before us stays for seconds.
        settle_s = max(self._settle_s, LATE_RECORD_S) if verdict.strangers else self._settle_s
        for job_id in verdict.refused:
            self._line.refused(job_id)
        for dispatch_id in verdict.useless:
            self._attempts.delete(view.room, dispatch_id)
        jobless: tuple[CallKey | str, ...] = (*verdict.unserved, *verdict.strays)
        first_seen = {each: note.first_seen.get(each, now) for each in jobless}
        note.first_seen = first_seen
        for dispatch_id in verdict.strays:
            if first_seen[dispatch_id] + settle_s <= now:
                self._attempts.delete(view.room, dispatch_id)
        note.needs = {
            key: need
            for key, need in verdict.unserved.items()
            if self._settled(key, first_seen[key] + settle_s)
        }
        self._line_up(note, view, verdict, settle_s)
        deaf = self._deaf.viewed(note, view)
        unsettled = [due for due in (seen + settle_s for seen in first_seen.values()) if due > now]
        self._notes.viewed(note, now, soon=min(unsettled, default=None), deaf=deaf)

    def _settled(self, key: CallKey, settled_at: float) -> bool:
        """Return whether a job of a dispatch without one would be known by now."""
        if self._alone and self._line.get(key) is not None:
            # All offers come to us, and this one came.
            return True
        return settled_at <= self._state.now

    def _line_up(self, note: RoomNote, view: RoomView, verdict: Verdict, settle_s: float) -> None:
        """Bring the line in accord with what was seen."""
        for call in self._line.in_room(note.name):
            if call.key in verdict.unserved:
                self._line.wait_from(call, max(call.since, verdict.unserved[call.key].since))
                if call.key not in note.needs and call.step is Step.WAITING:
                    # Another worker may have it: no slot is kept for it until that is known.
                    call.retry_at = note.first_seen[call.key] + settle_s
                    self._line.due.set(call.key, call.retry_at)
            elif call.step is Step.WAITING and call.queued_at <= note.asked_at:
                self._line.give_up(call, "elsewhere" if view.callers else "left")
        for key, need in note.needs.items():
            if self._line.get(key) is None:
                self._line.join(self._new_call(key, need, view), "survey")

    def _new_call(self, key: CallKey, need: Need, view: RoomView) -> WaitingCall:
        return WaitingCall(
            key=key,
            room=view.room,
            room_sid=view.sid,
            tenant=tenant_of(need.like.metadata, self._state.settings.tenant_key),
            since=need.since,
            queued_at=self._state.now,
        )

    def _tenant_room(self, tenant: str) -> int | None:
        limit = tenant_limit(tenant, self._state.settings)
        return None if limit is None else max(0, limit - self._state.slots.of_tenant(tenant))

    # What is known of a job.

    def _runs(self, record: JobRecord) -> bool:
        return self._state.jobs.get(record.job_id) is not None

    def _ended(self, record: JobRecord) -> bool:
        return self._state.jobs.ended(record.job_id) is not None
