"""The single owner of the dispatcher's state: one input in, a list of commands out.

Pure and synchronous: no I/O, no tasks, time from a clock. What belongs together decides together
in a part of its own (offers, supervisor, terminations, membership, replicas, shutdown); the core
hands each input to its part and then lets the change settle.
"""

import math
import random

from voxray.actors.contracts import ProgramInfo, TurnReport
from voxray.base.ids import JobId
from voxray.base.settings import HostSettings, InferenceSettings, ReconcilerSettings
from voxray.base.timing import Clock
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.capacity import LoadReport, report_load
from voxray.dispatcher.commands import Command, UpdateWorker
from voxray.dispatcher.hosts import HostTable
from voxray.dispatcher.job_listing import JobSummary, list_jobs
from voxray.dispatcher.jobs import UNASSIGNED, Job, StoryEntry
from voxray.dispatcher.loop_reports import report_loop
from voxray.dispatcher.membership import Membership
from voxray.dispatcher.offers import OfferDesk
from voxray.dispatcher.placer import Placer
from voxray.dispatcher.reconciler import Reconciler
from voxray.dispatcher.reload import Reload
from voxray.dispatcher.replicas import ReplicaSet
from voxray.dispatcher.role import Role
from voxray.dispatcher.shutdown import Shutdown
from voxray.dispatcher.simulation import SimulationDesk
from voxray.dispatcher.state import CoreState, Stage
from voxray.dispatcher.status import Snapshot, Totals, build_snapshot, count_totals
from voxray.dispatcher.supervisor import Supervisor
from voxray.dispatcher.terminations import TerminationDesk
from voxray.observability import events as ev

_STALL_SHARE = 0.75
"""A pause between two inputs longer than this share of a lease was our own: half a lease after its
last report a host is due for a tick at the latest."""


SETTLE_S = 0.02
"""How long at most a burst's effect on the pool and on our load waits for its answers."""


class DispatcherCore:
    """Decides everything that the dispatcher does.

    The driver calls `handle` with every input, one at a time, and carries the commands out in
    their order; it hands in a `Tick` when `next_deadline` has passed. `FleetFound` has to come
    once, at the beginning: nothing is started before it is known what runs already.

    Args:
        hosts: settings of the session hosts.
        inference: settings of the replica groups.
        program: what the user's program is.
        clock: where the time of each step comes from.
        rng: for the jitter of pauses.
        role: which of the app's dispatchers this is.
    """

    def __init__(
        self,
        hosts: HostSettings,
        inference: InferenceSettings,
        program: ProgramInfo,
        clock: Clock,
        *,
        rng: random.Random | None = None,
        role: Role | None = None,
    ) -> None:
        role = role or Role()
        state = CoreState(
            settings=hosts,
            program=program,
            clock=clock,
            now=clock.monotonic(),
            wall=clock.wall(),
            hosts=HostTable(hosts.lease_s),
            peers_over=not (role.leads and role.others),
        )
        rng = rng if rng is not None else random.Random()  # noqa: S311 - jitter, not a secret
        placer = Placer(state)
        self._state = state
        self._host_ids = role.new_host_id
        self._supervisor = Supervisor(state, placer)
        self._offers = OfferDesk(state, placer, self._supervisor)
        self._reconciler = Reconciler(state, self._supervisor, ReconcilerSettings(enabled=False))
        self._terminations = TerminationDesk(state, self._supervisor, self._offers)
        self._replicas = ReplicaSet(state, inference, rng, owner=role.leads)
        self._membership = Membership(state, self._supervisor, self._offers, self._replicas, rng)
        self._shutdown = Shutdown(
            state, self._supervisor, self._offers, self._membership, self._replicas
        )
        self._simulation = SimulationDesk(state, placer, self._supervisor)
        self._reload = Reload(state, self._supervisor)
        self._told_worker: UpdateWorker | None = None
        self._told_capacity: ev.CapacityChanged | None = None
        self._was_registered = False
        self._settled_at = -math.inf
        self._settle_at: float | None = None

    def search_rooms(self, settings: ReconcilerSettings, *, alone: bool = True) -> None:
        """Make this the dispatcher that searches for rooms without an agent.

        Of several dispatchers of an app one does. Before the first input.

        Args:
            settings: how often to look, and how much at most.
            alone: whether no other dispatcher takes this app's jobs.
        """
        self._reconciler = Reconciler(self._state, self._supervisor, settings, alone=alone)

    def handle(self, item: inp.Input) -> list[Command]:
        """Take one input and return what is to be done, in order.

        Raises:
            InvalidTransitionError: a bug of ours; the state is as it was at the fault.
        """
        state = self._state
        before = state.now
        state.begin()
        pause = state.now - before
        if pause > state.settings.lease_s * _STALL_SHARE:
            state.hosts.forgive(pause)
        if state.stage is Stage.OVER:
            # Only who asks gets an answer still; nothing else is left to decide.
            if isinstance(item, inp.Offered):
                self._offers.handle(item)
            return state.take_commands()
        late = state.catch_up()
        self._dispatch(item)
        late = late or (self._settle_at is not None and state.now >= self._settle_at)
        if late or (state.dirty and not self._settles_later()):
            self._settle()
        return state.take_commands()

    def next_deadline(self) -> float | None:
        """Return the monotonic time at which a `Tick` is due; None while nothing is timed."""
        state = self._state
        if state.stage is Stage.OVER:
            return None
        times = [
            self._membership.next_deadline(),
            self._replicas.next_deadline(),
            self._shutdown.next_deadline(),
            state.jobs.next_due(),
            state.wake_ups[0] if state.wake_ups else None,
            self._settle_at,
            self._reconciler.next_deadline(),
        ]
        return min((time for time in times if time is not None), default=None)

    def story(self, job_id: JobId) -> tuple[StoryEntry, ...]:
        """Return what happened to a job, oldest first; empty for one that is not known."""
        return self._state.jobs.story(job_id)

    def jobs(self) -> tuple[JobSummary, ...]:
        """Return every job that is known: the live ones, then the last that ended."""
        return list_jobs(self._state.jobs, self._state.clock.monotonic())

    def snapshot(self) -> Snapshot:
        """Return the whole state as plain data."""
        return build_snapshot(self._state, self._replicas, self.totals())

    def totals(self) -> Totals:
        """Return the sums of the whole state; costs the same for any number of hosts."""
        report = self._load()
        return count_totals(self._state, full=report.full, load=report.load)

    @property
    def registered(self) -> bool:
        """Whether LiveKit knows us."""
        return self._state.registered

    @property
    def program(self) -> ProgramInfo:
        """The current program."""
        return self._state.program

    def _dispatch(self, item: inp.Input) -> None:  # noqa: C901, PLR0912 - one case per input
        state = self._state
        match item:
            case inp.Tick():
                self._expire()
            case inp.Offered() | inp.RequestAnswered() | inp.RequestFailed() | inp.Assigned():
                self._offers.handle(item)
            case inp.JobReported():
                self._supervisor.reported(item.host_id, item.status)
            case inp.JobStartFailed():
                self._supervisor.start_failed(item)
            case inp.Terminated():
                self._terminations.terminated(item)
            case inp.RoomChecked():
                self._terminations.room_checked(item)
            case inp.LoopReported():
                report_loop(self._state, item)
            case inp.RoomsListed() | inp.RoomViewed() | inp.DispatchCreated():
                self._reconciler.handle(item)
            case inp.TurnReported():
                self._turn(item.report)
            case inp.WorkerRegistered():
                self._registered(item.worker_id)
            case inp.WorkerDisconnected():
                self._disconnected(item.reason)
            case inp.Drain():
                self._shutdown.drain(item.timeout_s)
            case inp.ShutdownNow():
                self._shutdown.now()
            case inp.ProgramChanged():
                self._membership.change_program(item.program)
                if item.relaunch:
                    self._reload.begin()
            case inp.Simulated():
                self._simulation.handle(item)
            case inp.PeersLooked(over=over):
                state.dirty = over is not state.peers_over
                state.peers_over = over
            case inp.FleetFound():
                state.fleet_known = True
                self._membership.found(item.hosts)
                fresh = not item.hosts and not item.replicas
                self._replicas.found(item.replicas, fresh=fresh)
            case _:
                self._dispatch_fleet(item)

    def _dispatch_fleet(self, item: inp.HostInput | inp.ReplicaInput) -> None:
        match item:
            case (
                inp.ReplicaStarted()
                | inp.ReplicaWaiting()
                | inp.ReplicaFailed()
                | inp.ReplicaHeartbeatReceived()
                | inp.ReplicaLost()
                | inp.ReplicaRetired()
            ):
                self._replicas.handle(item)
            case _:
                self._membership.handle(item)

    def _settles_later(self) -> bool:
        """Return whether this step's consequences come with those of the next ones.

        In a burst the answers to the offers go first: the pool and our load follow every
        `SETTLE_S`. That we are full LiveKit hears at once.
        """
        state = self._state
        at = self._settled_at + SETTLE_S
        if not state.patient or state.now >= at or not state.free_slots():
            return False
        self._settle_at = at
        return True

    def _settle(self) -> None:
        """Let a change have its consequences; jobs with a caller come before new ones."""
        self._settled_at, self._settle_at = self._state.now, None
        self._reload.advance()
        self._supervisor.place_waiting()
        self._offers.serve_held()
        self._reconciler.settle()
        self._membership.keep_pool(self._host_ids)
        self._replicas.keep()
        self._shutdown.advance()
        self._tell_capacity()

    def _expire(self) -> None:
        state = self._state
        self._membership.expire()
        self._replicas.expire()
        for job in state.jobs.due(state.now):
            if state.jobs.get(job.job_id) is not job:
                continue
            if job.check is not None and state.now >= job.check.due:
                self._terminations.expire(job)
            # A job that ended just now has no deadline any more.
            if job.deadline is not None and state.now >= job.deadline:
                self._expire_job(job)
            state.jobs.rewatch(job)

    def _expire_job(self, job: Job) -> None:
        if job.state in UNASSIGNED:
            self._offers.expire(job)
        else:
            self._supervisor.expire(job)

    def _registered(self, worker_id: str) -> None:
        state = self._state
        state.registered = True
        state.worker_id = worker_id
        # A new connection knows nothing of our load yet.
        self._told_worker = None
        state.emit(ev.WorkerRegistered(worker_id=worker_id, reconnect=self._was_registered))
        self._was_registered = True
        self._reconciler.registered()

    def _disconnected(self, reason: str) -> None:
        self._state.registered = False
        self._offers.disconnected()
        self._state.emit(ev.WorkerDisconnected(reason=reason))

    def _turn(self, report: TurnReport) -> None:
        state = self._state
        state.dirty = False
        job = state.jobs.get(report.job_id)
        state.emit(
            ev.TurnDone(
                job_id=report.job_id,
                room=report.room,
                agent=report.agent,
                number=report.number,
                stages=report.stages,
                tools=report.tools,
                interrupted=report.interrupted,
                models=report.models,
                at=report.at,
                traceparent=job.traceparent if job is not None else "",
            )
        )

    def _load(self) -> LoadReport:
        state = self._state
        ready = state.index.ready
        return report_load(ready.capacity, ready.free, state.own_load(), accepting=state.accepting)

    def _tell_capacity(self) -> None:
        state = self._state
        report = self._load()
        totals = count_totals(state, full=report.full, load=report.load)
        capacity = ev.CapacityChanged(
            slots=totals.slots,
            used=totals.used,
            reserved=totals.reserved,
            hosts=totals.ready_hosts,
            idle_hosts=totals.idle_hosts,
            load=report.load,
        )
        if capacity != self._told_capacity:
            self._told_capacity = capacity
            state.emit(capacity)
        worker = UpdateWorker(full=report.full, load=report.load, job_count=state.jobs.assigned)
        if state.registered and worker != self._told_worker:
            self._told_worker = worker
            state.send(worker)
