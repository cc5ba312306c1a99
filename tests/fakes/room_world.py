"""LiveKit's rooms and dispatches around a dispatcher core, with the server's lags and losses.

After `pkg/rtc/room.go`, `pkg/agent/client.go` and `pkg/service/agentservice.go` of livekit-server
1.13.5: a job is offered once, when its dispatch is made; who is full or away is not asked again; a
job shows up in its dispatch's record late; what ended by itself looks as if it still ran.
"""

from dataclasses import dataclass, field

from livekit.protocol import agent

from tests.fakes.dispatch_world import RESTART_S, World
from voxray.actors.contracts import STANDS_IN, JobOrder, JobPhase, JobStatus, RequestAnswer
from voxray.base.ids import JobId
from voxray.base.settings import ReconcilerSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.messages import origin_of
from voxray.dispatcher.origins import CallKey, StandIn, write_stand_in
from voxray.dispatcher.room_views import (
    CallerView,
    DispatchRecord,
    JobRecord,
    RoomListing,
    RoomView,
)
from voxray.dispatcher.verdicts import LOST_BEFORE_S
from voxray.observability import events as ev
from voxray.observability import room_events as rev

CALL_S = 0.003
"""One way of a request to LiveKit's API."""


@dataclass
class SimJob:
    """A job in a dispatch's record."""

    job_id: JobId
    participant: str
    shown_at: float
    started_at: float
    identity: str
    dropped: bool = False


@dataclass
class SimDispatch:
    """A dispatch; `pending` counts the offers of it that are under way."""

    dispatch_id: str
    room: "SimRoom"
    created_at: float
    stand_in: StandIn | None = None
    metadata: str = ""
    jobs: list[SimJob] = field(default_factory=list)
    pending: int = 0
    deleted: bool = False

    @property
    def root(self) -> str:
        return self.stand_in.key.dispatch_id if self.stand_in else self.dispatch_id


@dataclass
class SimRoom:
    """A room; `callers` maps sids to the time of their join."""

    name: str
    sid: str
    callers: dict[str, float] = field(default_factory=dict)
    # Listed, and yet nobody reaches it: LiveKit deleted it while its agent joined.
    unreachable: bool = False
    dispatches: dict[str, SimDispatch] = field(default_factory=dict)
    closed: bool = False


class RoomWorld(World):
    """A world whose offers come from rooms. Moods: `lose_offers`, `fail_calls`, `lose_answers`
    (how many of the next ones), `record_lag_s`, `offer_lag_s`."""

    def __init__(self, *, reconciler: ReconcilerSettings | None = None, **options) -> None:
        self.reconciler = reconciler or ReconcilerSettings()
        self.alone = True
        self.rooms: dict[str, SimRoom] = {}
        self.dispatch_of: dict[JobId, SimDispatch] = {}
        self.sim_jobs: dict[JobId, SimJob] = {}
        self.asked: dict[JobId, SimDispatch] = {}
        self.known: set[JobId] = set()
        self.over: set[CallKey] = set()
        self.forgotten: set[CallKey] = set()
        self.full = False
        self.troubled = False
        self.lose_offers = self.fail_calls = self.lose_answers = 0
        self.record_lag_s = self.offer_lag_s = 0.0
        self.worker_type = options["info"].worker_type if "info" in options else 0
        super().__init__(**options)

    def new_core(self) -> None:
        super().new_core()
        self.born = self.clock.wall()
        self.core.search_rooms(self.reconciler, alone=self.alone)
        self.full = False
        self.known.clear()
        self.asked.clear()

    def restart(self) -> None:
        self.forgotten |= {key for key in self.over if not self._shows_end(key)}
        super().restart()

    def _shows_end(self, key: CallKey) -> bool:
        """Return whether LiveKit's record will tell the next dispatcher that a call is over.

        It does so only for a job that it shows by then. One that was refused for good says so; one
        that ran may as well have been lost with the dispatcher, unless it ran long before. The
        rest is known only from the hosts that are left (see `watch`).
        """
        long_ago = self.clock.wall() + RESTART_S - LOST_BEFORE_S
        return any(
            job.participant == key.participant
            and job.shown_at <= self.clock.now
            and (dispatch.stand_in is None if job.dropped else job.started_at < long_ago)
            for room in self.rooms.values()
            for dispatch in room.dispatches.values()
            if dispatch.root == key.dispatch_id
            for job in dispatch.jobs
        )

    def watch(self, host_id) -> None:
        host = self.hosts[host_id]
        if host.alive and not host.cut:
            for job_id, status in host.statuses.items():
                if job_id not in self.sim_jobs:
                    continue
                # An end tells nothing of its call before LiveKit shows the job in its record.
                shown = self.sim_jobs[job_id].shown_at <= self.clock.now
                if status.phase is JobPhase.ENDED and shown:
                    self.forgotten.discard(self.key(job_id))
        super().watch(host_id)

    def disconnect(self) -> None:
        # The server forgets what it has under way with us, and our jobs.
        self.asked.clear()
        self.known.clear()
        super().disconnect()

    def _run_request(self, command: cmd.RunRequest) -> None:
        room = self.room_of(command.job_id).name
        if "rejected" in room:
            told = self.request_answer
            self.request_answer = RequestAnswer(accept=None, terminate=room.endswith("-for-all"))
            super()._run_request(command)
            self.request_answer = told
        else:
            super()._run_request(command)

    # What people do.

    def call(
        self, name: str, *, callers: int = 1, joins_after_s: float = 0.1, metadata: str = ""
    ) -> SimRoom:
        """A room is made; its callers come a moment later."""
        self._number += 1
        room = self.rooms[name] = SimRoom(name, f"RM_{self._number}")
        self._dispatch(room, None, metadata)
        for _ in range(callers):
            self._number += 1
            sid = f"PA_{self._number}"
            self.later(joins_after_s, lambda sid=sid: self._join(room, sid))
        return room

    def _join(self, room: SimRoom, sid: str) -> None:
        if room.closed:
            return
        room.callers[sid] = self.clock.wall()
        if self.worker_type:
            for dispatch in tuple(room.dispatches.values()):
                self._launch(dispatch, sid)

    def hang_up(self, name: str) -> None:
        """The callers leave and the room closes; its jobs end."""
        room = self.rooms.pop(name)
        room.closed = True
        for dispatch in room.dispatches.values():
            for job in dispatch.jobs:
                self.finish(job.job_id)

    def leave_on_purpose(self, job_id: JobId) -> None:
        """A job's program ends it while its caller stays; one that hangs can't."""
        before = job_id in self.ended
        runs = any(job_id in host.orders and not host.hung for host in self.living())
        self.finish(job_id)
        if runs and not before:
            self.over.add(self.key(job_id))

    def key(self, job_id: JobId) -> CallKey:
        return CallKey(self.dispatch_of[job_id].root, self.sim_jobs[job_id].participant)

    def room_of(self, job_id: JobId) -> SimRoom:
        return self.dispatch_of[job_id].room

    def agents_in(self, room: SimRoom) -> dict[CallKey, set[JobId]]:
        """Return the jobs whose agents are in a room, by call."""
        found: dict[CallKey, set[JobId]] = {}
        for job_id, dispatch in self.dispatch_of.items():
            if dispatch.room is room and self.present(job_id):
                found.setdefault(self.key(job_id), set()).add(job_id)
        return found

    def calls_of(self, room: SimRoom) -> set[CallKey]:
        """Return the agents that a room should have."""
        roots = [each.dispatch_id for each in room.dispatches.values() if each.stand_in is None]
        people = (room.callers if self.worker_type else [""]) if room.callers else []
        return {CallKey(root, sid) for root in roots for sid in people}

    # LiveKit's dispatching.

    def _dispatch(self, room: SimRoom, stand_in: StandIn | None, metadata: str) -> SimDispatch:
        self._number += 1
        dispatch = SimDispatch(f"AD_{self._number}", room, self.clock.wall(), stand_in, metadata)
        room.dispatches[dispatch.dispatch_id] = dispatch
        if self.worker_type:
            for sid in tuple(room.callers):
                self._launch(dispatch, sid)
        else:
            self._launch(dispatch, "")
        return dispatch

    def _launch(self, dispatch: SimDispatch, participant: str) -> None:
        dispatch.pending += 1
        self.later(
            0.001 + self.rng.random() * self.offer_lag_s, lambda: self._ask(dispatch, participant)
        )

    def _ask(self, dispatch: SimDispatch, participant: str) -> None:
        state = self.core._state
        if not state.registered or self.full or self.lose_offers:
            self.lose_offers = max(0, self.lose_offers - 1)
            dispatch.pending -= 1
            return
        self._number += 1
        job_id = JobId(f"AJ_{self._number}")
        mark = {STANDS_IN: write_stand_in(dispatch.stand_in)} if dispatch.stand_in else {}
        job = agent.Job(
            id=job_id,
            dispatch_id=dispatch.dispatch_id,
            room={"name": dispatch.room.name, "sid": dispatch.room.sid},
            participant={"sid": participant} if participant else None,
            attributes=mark,
            metadata=dispatch.metadata,
        ).SerializeToString()
        self.asked[job_id] = dispatch
        self.dispatch_of[job_id] = dispatch
        self.sim_jobs[job_id] = SimJob(
            job_id,
            participant,
            shown_at=self.clock.now + self.record_lag_s,
            started_at=self.clock.wall(),
            identity=f"agent-{job_id}",
        )
        self.later(3.0, lambda: self._give_up(job_id))
        self.tell(
            inp.Offered(
                job_id=job_id,
                room=dispatch.room.name,
                job=job,
                metadata=dispatch.metadata,
                received_at=self.clock.wall(),
                traceparent="00-1-2-01",
                origin=origin_of(job),
            )
        )

    def _give_up(self, job_id: JobId) -> None:
        if (dispatch := self.asked.pop(job_id, None)) is not None:
            dispatch.pending -= 1

    def _answered(self, command: cmd.AnswerAvailability) -> None:
        dispatch = self.asked.pop(command.job_id, None)
        if dispatch is None:
            return
        dispatch.pending -= 1
        job = self.sim_jobs[command.job_id]
        if command.available:
            job.identity = command.accept.identity
            dispatch.jobs.append(job)
            self.known.add(command.job_id)
            if self.assigns:
                self.later(0.002, self._assignment(command.job_id))
        elif command.terminate:
            job.dropped = True
            dispatch.jobs.append(job)
        if dispatch.deleted:
            self._terminate(dispatch)

    def _terminate(self, dispatch: SimDispatch) -> None:
        for job in dispatch.jobs:
            if job.job_id in self.known:
                self.known.discard(job.job_id)
                self.later(0.002, inp.Terminated(job_id=job.job_id))

    # LiveKit's API.

    def _answer_call(self, answer: inp.Input, failure: inp.Input) -> None:
        epoch = self.restarts
        if self.lose_answers:
            self.lose_answers -= 1
            self.troubled = True
            answer = failure
        self.later(CALL_S, lambda: self.tell(answer) if epoch == self.restarts else None)

    def _fails(self, failure: inp.Input) -> bool:
        if not self.fail_calls:
            return False
        self.fail_calls -= 1
        self.troubled = True
        self._answer_call(failure, failure)
        return True

    def _list_rooms(self) -> None:
        failure = inp.RoomsListed(rooms=None)
        if self._fails(failure):
            return
        rooms = tuple(
            RoomListing(name=room.name, sid=room.sid, participants=len(room.callers))
            for room in self.rooms.values()
        )
        self._answer_call(inp.RoomsListed(rooms=rooms), failure)

    def _view_room(self, command: cmd.ViewRoom) -> None:
        failure = inp.RoomViewed(room=command.room, view=None)
        if self._fails(failure):
            return
        room = self.rooms.get(command.room)
        if room is None or room.unreachable:
            gone = inp.RoomViewed(room=command.room, view=None, gone=True)
            self._answer_call(gone, failure)
            return
        present = {job for jobs in self.agents_in(room).values() for job in jobs}
        view = RoomView(
            room=room.name,
            sid=room.sid,
            dispatches=tuple(self._record(each) for each in room.dispatches.values()),
            callers=tuple(
                CallerView(sid=sid, joined_at=at, publishes=True)
                for sid, at in room.callers.items()
            ),
            agents=frozenset(self.sim_jobs[job_id].identity for job_id in present),
        )
        self._answer_call(inp.RoomViewed(room=room.name, view=view), failure)

    def _record(self, dispatch: SimDispatch) -> DispatchRecord:
        return DispatchRecord(
            dispatch_id=dispatch.dispatch_id,
            created_at=dispatch.created_at,
            stand_in=dispatch.stand_in,
            metadata=dispatch.metadata,
            jobs=tuple(
                JobRecord(
                    job_id=job.job_id,
                    participant=job.participant,
                    identity="" if job.dropped else job.identity,
                    started_at=job.started_at,
                    ended=job.dropped,
                )
                for job in dispatch.jobs
                if job.shown_at <= self.clock.now
            ),
        )

    def _create(self, command: cmd.CreateDispatch) -> None:
        failure = inp.DispatchCreated(
            key=command.key, room=command.room, dispatch_id="", reason="no answer"
        )
        if self._fails(failure):
            return
        room = self.rooms.get(command.room)
        if room is None:
            # LiveKit makes the room anew, with its automatic dispatch.
            room = self.call(command.room, callers=0)
        stand_in = command.stand_in
        left = [
            each
            for each in room.dispatches.values()
            if each.stand_in is not None and each.stand_in.key == command.key
        ]
        # Whose job may still come; a failed call, or a new start, may leave one for a while.
        unanswered = [each for each in left if not each.jobs and not each.pending]
        assert not unanswered or self.troubled or self.restarts, "an attempt beside another"
        dispatch = self._dispatch(room, stand_in, command.like.metadata)
        created = inp.DispatchCreated(
            key=command.key, room=command.room, dispatch_id=dispatch.dispatch_id
        )
        self._answer_call(created, failure)

    def _delete(self, command: cmd.DeleteDispatch) -> None:
        room = self.rooms.get(command.room)
        if self.fail_calls or room is None:
            self.troubled |= bool(self.fail_calls)
            self.fail_calls = max(0, self.fail_calls - 1)
            return
        dispatch = room.dispatches.pop(command.dispatch_id, None)
        if dispatch is not None:
            dispatch.deleted = True
            self._terminate(dispatch)

    def _perform(self, command: cmd.Command) -> None:
        match command:
            case cmd.EmitEvent(event=ev.JobAnswered(outcome="rejected", job_id=job_id)):
                self.over.add(self.key(job_id))
                super()._perform(command)
            case cmd.AnswerAvailability():
                self._answered(command)
            case cmd.UpdateWorker(full=full):
                self.full = full
            case cmd.UpdateJob(status="success" | "failed", job_id=job_id):
                self.known.discard(job_id)
            case cmd.ListRooms():
                self.later(CALL_S, self._list_rooms)
            case cmd.ViewRoom():
                self.later(CALL_S, lambda: self._view_room(command))
            case cmd.CreateDispatch():
                self.later(CALL_S, lambda: self._create(command))
            case cmd.DeleteDispatch():
                self.later(CALL_S, lambda: self._delete(command))
            case _:
                super()._perform(command)

    def _check_room(self, command: cmd.CheckRoom) -> None:
        def look() -> None:
            dispatch = self.dispatch_of[command.job_id]
            if dispatch.room.closed:
                answer = inp.RoomAnswer.GONE
            elif self.present(command.job_id):
                answer = inp.RoomAnswer.PRESENT
            else:
                answer = inp.RoomAnswer.ABSENT
            self.later(CALL_S, inp.RoomChecked(job_id=command.job_id, answer=answer))

        self.later(CALL_S, look)

    def _end(self, host, order: JobOrder, outcome: str) -> None:
        super()._end(host, order, outcome)
        if host.hung:
            return
        # As a real host, it tells its last ends to whoever asks anew.
        host.statuses[order.job_id] = JobStatus(
            job_id=order.job_id,
            generation=order.generation,
            phase=JobPhase.ENDED,
            outcome=outcome,
            reason="done",
        )

    # What has to hold.

    def _check_command(self, command: cmd.Command) -> None:
        super()._check_command(command)
        match command:
            case cmd.StartJob(order=order) if order.simulated:
                pass
            case cmd.StartJob(order=order) if order.cause == "new" and order.generation == 1:
                key = self.key(order.job_id)
                assert key not in self.over or key in self.forgotten, "served after it left"
            case cmd.CreateDispatch(key=key):
                assert key not in self.over or key in self.forgotten, "asked after it left"

    def check(self) -> None:
        super().check()
        for room in self.rooms.values():
            for key, jobs in self.agents_in(room).items():
                assert len(jobs) == 1, f"{len(jobs)} agents for {key} in {room.name}: {jobs}"

    def served(self) -> list[str]:
        """Return the rooms that waited and were served, in order."""
        return [event.room for event in self.of(rev.RoomServed)]
