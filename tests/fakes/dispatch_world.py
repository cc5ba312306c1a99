"""LiveKit, hosts and replicas around a dispatcher core, in virtual time.

The world carries commands out after plausible delays, feeds back what real parts would report, and
checks after every step what has to hold whatever happens.
"""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field, replace

from voxray.actors.contracts import (
    AcceptArguments,
    Endpoint,
    HostHeartbeat,
    HostSnapshot,
    JobOrder,
    JobPhase,
    JobStatus,
    ProgramInfo,
    ReplicaHeartbeat,
    RequestAnswer,
)
from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.base.settings import HostSettings, InferenceSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.capacity import PermitState
from voxray.dispatcher.core import DispatcherCore
from voxray.dispatcher.hosts import HostState
from voxray.dispatcher.jobs import JobState
from voxray.dispatcher.placement import HostCondition
from voxray.dispatcher.role import Role
from voxray.dispatcher.state import Stage
from voxray.observability import events as ev

ICE_S = 15.0
RESTART_S = 1.0


class VirtualClock:
    """Time that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now


def program(**changes) -> ProgramInfo:
    fields = {
        "path": "/app/agent.py",
        "agent_name": "",
        "worker_type": 0,
        "permissions": b"",
        "has_request_fnc": False,
        "drain_timeout_s": 60.0,
        "initialize_timeout_s": 10.0,
        "shutdown_timeout_s": 10.0,
        "session_end_timeout_s": 10.0,
        "sdk_version": "1.8.9",
    }
    return ProgramInfo(**(fields | changes))


def endpoint(name: str) -> Endpoint:
    return Endpoint(address=f"{name}:1", metrics=f"{name}:2", node="n1", pid=7)


@dataclass
class SimHost:
    """A host process: dead, hung (silent but running), or well."""

    host_id: HostId
    version: str = ""
    alive: bool = True
    ready: bool = False
    hung: bool = False
    cut: bool = False
    used: bool = False
    watched: bool = False
    sequence: int = 0
    load: float | None = None
    orders: dict[JobId, JobOrder] = field(default_factory=dict)
    statuses: dict[JobId, JobStatus] = field(default_factory=dict)


class World:
    """Everything around one core."""

    def __init__(
        self,
        *,
        hosts: HostSettings | None = None,
        inference: InferenceSettings | None = None,
        info: ProgramInfo | None = None,
        rng: random.Random | None = None,
        clock: VirtualClock | None = None,
        start_core: bool = True,
        role: Role | None = None,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.rng = rng or random.Random(7)
        self.settings = hosts or HostSettings()
        self.inference = inference or InferenceSettings()
        self.info = info or program()
        self.role = replace(role or Role(), host_ids=self._new_host_id)
        self.hosts: dict[HostId, SimHost] = {}
        self.replicas: dict[ReplicaId, bool] = {}
        self.replica_load: dict[ReplicaId, tuple[int, float]] = {}
        self.draining: set[ReplicaId] = set()
        self.unplaced: set[ReplicaId] = set()
        self.in_room: dict[JobId, tuple[HostId, int]] = {}
        self.left_at: dict[JobId, float] = {}
        self.rooms_gone: set[JobId] = set()
        self.start_s = 1.0
        self.fail_starts = 0
        self.fail_job_starts = 0
        self.lose_stops = 0
        self.assigns = True
        self.answers_requests = True
        self.request_answer: RequestAnswer | None = None
        self.stalled_s = 0.0
        self.generations: dict[JobId, int] = {}
        self.ended: set[JobId] = set()
        self.metadata: dict[JobId, str] = {}
        self.restarts = 0
        self._number = 0
        self._queue: list[tuple[float, int, object]] = []
        self._tie = 0
        self.new_core()
        if start_core:
            self.begin()

    # The core and what was seen of it.

    def new_core(self) -> None:
        """Start a dispatcher that knows nothing; what the last one did is not looked at again."""
        self.core = DispatcherCore(
            self.settings,
            self.inference,
            self.info,
            self.clock,
            rng=random.Random(3),
            role=self.role,
        )
        self.commands: list[cmd.Command] = []
        self.events: list[ev.Event] = []
        self.offers: Counter[JobId] = Counter()
        self.answers: Counter[JobId] = Counter()
        self.offered_at: dict[JobId, float] = {}
        self.withdrawn: set[JobId] = set()
        self.told_gone: set[HostId] = set()
        self.drained = 0

    def begin(self) -> None:
        self.tell(inp.WorkerRegistered(worker_id="AW_1"))
        self.tell(inp.FleetFound(hosts=tuple(self.hosts), replicas=tuple(self.replicas)))

    def restart(self) -> None:
        """The dispatcher dies and comes back; hosts and replicas have gone on."""
        self.restarts += 1
        for host in self.hosts.values():
            host.watched = False
        self.clock.now += RESTART_S
        self.new_core()
        alive = tuple(host.host_id for host in self.living())
        replicas = tuple(each for each, lives in self.replicas.items() if lives)
        if not alive and not replicas:
            self.replicas.clear()
        self.tell(inp.FleetFound(hosts=alive, replicas=replicas))
        self.tell(inp.WorkerRegistered(worker_id="AW_3"))
        for host_id in alive:
            self.later(0.05, lambda host_id=host_id: self.watch(host_id))

    def _new_host_id(self, dispatcher: int) -> HostId:
        self._number += 1
        prefix = f"{dispatcher}-" if dispatcher else ""
        return HostId(f"{prefix}{self._number:08x}")

    def tell(self, item: inp.Input) -> list[cmd.Command]:
        """Hand an input to the core, check and carry out what comes back."""
        if isinstance(item, inp.Offered):
            self.offers[item.job_id] += 1
            self.offered_at.setdefault(item.job_id, self.clock.now - self.stalled_s)
            if item.job_id not in self.generations:
                # It was refused before; LiveKit came back to us with it.
                self.ended.discard(item.job_id)
        if isinstance(item, inp.HostLost | inp.HostRetired | inp.HostFailed):
            self.told_gone.add(item.host_id)
        commands = self.core.handle(item)
        for command in commands:
            self.commands.append(command)
            self._check_command(command)
            self._perform(command)
        if commands or not isinstance(item, inp.HostHeartbeatReceived):
            self.check()
        if isinstance(item, inp.Tick):
            deadline = self.core.next_deadline()
            assert deadline is None or deadline > self.clock.now, "a tick left its deadline due"
        return commands

    def of(self, kind: type) -> list:
        """Return the commands, or events, of a kind so far."""
        return [each for each in (*self.commands, *self.events) if isinstance(each, kind)]

    # Time.

    def later(self, delay_s: float, what: object) -> None:
        """Do (a callable) or tell (an input) something after a delay."""
        self._tie += 1
        heapq.heappush(self._queue, (self.clock.now + delay_s, self._tie, what))

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that is due in it, ticks included."""
        end = self.clock.now + seconds
        while True:
            due = self._queue[0][0] if self._queue else float("inf")
            deadline = self.core.next_deadline()
            tick = max(deadline, self.clock.now) if deadline is not None else float("inf")
            if min(due, tick) > end:
                break
            if tick < due:
                self.clock.now = tick
                self.tell(inp.Tick())
                continue
            _, _, what = heapq.heappop(self._queue)
            self.clock.now = max(self.clock.now, due)
            if callable(what):
                what()
            else:
                self.tell(what)
        self.clock.now = end

    def stall(self, seconds: float) -> None:
        """The dispatcher itself does not run for a while."""
        self.clock.now += seconds
        self.stalled_s += seconds
        self.advance(0.0)

    # What LiveKit does.

    def offer(self, job_id: str | None = None, *, metadata: str = "") -> JobId:
        self._number += 1
        job = JobId(job_id or f"AJ_{self._number}")
        self.tell(
            inp.Offered(
                job_id=job,
                room=f"room-{job}",
                job=b"job",
                received_at=self.clock.wall(),
                metadata=self.metadata.setdefault(job, metadata),
                traceparent="00-1-2-01",
            )
        )
        return job

    def simulate(self, room: str | None = None) -> JobId:
        """A person asks for a job in a room, by default one of theirs."""
        self._number += 1
        job_id = JobId(f"job-{self._number}")
        self.tell(
            inp.Simulated(
                job_id=job_id,
                room=room or f"room-{job_id}",
                job=b"job",
                url="ws://livekit",
                token="signed by us",
                identity="agent-me",
            )
        )
        return job_id

    def change_program(self, version: str, *, relaunch: bool = False) -> None:
        self.info = self.info.model_copy(update={"version": version})
        self.tell(inp.ProgramChanged(program=self.info, relaunch=relaunch))

    def disconnect(self) -> None:
        for job in self.core._state.jobs:
            if job.state in {JobState.OFFERED, JobState.RESERVED} and not job.answered:
                self.withdrawn.add(job.job_id)
        self.tell(inp.WorkerDisconnected(reason="test"))
        self.later(0.5, inp.WorkerRegistered(worker_id="AW_2"))

    def present(self, job_id: JobId) -> bool:
        return job_id in self.in_room and self.clock.now < self.left_at.get(job_id, float("inf"))

    # What hosts do.

    def finish(self, job_id: JobId, outcome: str = "success") -> None:
        """The job's own life cycle comes to its end, wherever it runs."""
        for host in self.hosts.values():
            order = host.orders.get(job_id)
            if order is not None and host.alive:
                self._end(host, order, outcome)

    def kill(self, host_id: HostId, *, seen_after_s: float = 0.03) -> None:
        host = self.hosts[host_id]
        if not host.alive:
            return
        host.alive = False
        for job_id, (at, _) in self.in_room.items():
            if at == host_id:
                self.left_at[job_id] = self.clock.now + ICE_S
        if not host.cut:
            self.later(seen_after_s, inp.HostLost(host_id=host_id, evidence="its stream broke"))

    def hang(self, host_id: HostId) -> None:
        self.hosts[host_id].hung = True

    def cut(self, host_id: HostId) -> None:
        """The network between the dispatcher and a host is gone; the host goes on."""
        self.hosts[host_id].cut = True

    def living(self) -> list[SimHost]:
        return [host for host in self.hosts.values() if host.alive and host.ready]

    def _start_host(self, command: cmd.StartHost) -> None:
        host_id = command.host_id
        if self.fail_starts:
            self.fail_starts -= 1
            self.later(self.start_s, inp.HostFailed(host_id=host_id, reason="no memory"))
            return
        self.hosts[host_id] = SimHost(host_id, version=command.program.version)
        self.later(self.start_s, lambda: self._host_up(host_id))

    def _host_up(self, host_id: HostId) -> None:
        host = self.hosts[host_id]
        if host.alive:
            host.ready = True
            self.tell(inp.HostStarted(host_id=host_id, endpoint=endpoint(host_id)))
            self.watch(host_id)

    def watch(self, host_id: HostId) -> None:
        """A control stream opens: a snapshot, then heartbeats."""
        host = self.hosts[host_id]
        if not host.alive or host.cut:
            return
        host.watched = True
        self.tell(
            inp.HostSnapshotReceived(
                snapshot=HostSnapshot(
                    host_id=host_id,
                    endpoint=endpoint(host_id),
                    capacity=self.settings.slots_per_host,
                    orders=tuple(host.orders.values()),
                    statuses=tuple(host.statuses.values()),
                    single_use=self.settings.isolation == "process",
                    spent=self.settings.isolation == "process" and host.used,
                    version=host.version,
                )
            )
        )
        self._beat(host)

    def _beat(self, host: SimHost) -> None:
        if not host.alive or host.hung or host.cut or not host.watched:
            return
        host.sequence += 1
        self.tell(
            inp.HostHeartbeatReceived(
                heartbeat=HostHeartbeat(
                    host_id=host.host_id,
                    sequence=host.sequence,
                    jobs=len(host.orders),
                    load=host.load,
                )
            )
        )
        self.later(self.settings.heartbeat_s, lambda: self._beat(host))

    def _start_job(self, command: cmd.StartJob) -> None:
        host, order = self.hosts.get(command.host_id), command.order
        if host is None or not host.alive or self.fail_job_starts:
            self.fail_job_starts = max(0, self.fail_job_starts - 1)
            self.later(
                0.01,
                inp.JobStartFailed(
                    host_id=command.host_id,
                    job_id=order.job_id,
                    generation=order.generation,
                    reason="refused",
                ),
            )
            return
        host.orders[order.job_id] = order
        assert self.settings.isolation != "process" or not host.used, "a spent host got a job"
        host.used = True
        self.later(0.02, lambda: self._phase(host, order, JobPhase.STARTING))
        self.later(0.20, lambda: self._phase(host, order, JobPhase.CONNECTED))
        self.later(0.30, lambda: self._phase(host, order, JobPhase.RUNNING))

    def _phase(self, host: SimHost, order: JobOrder, phase: JobPhase) -> None:
        job_id = order.job_id
        if not host.alive or host.hung or host.orders.get(job_id) is not order:
            return
        if phase is JobPhase.CONNECTED:
            before = self.in_room.get(job_id)
            if before is not None and before[1] > order.generation:
                return
            if before is not None and self.present(job_id) and before[1] < order.generation:
                # The newcomer throws the old one out; LiveKit terminates the job it was.
                old = self.hosts[before[0]]
                if old.alive and job_id in old.orders:
                    self._end(old, old.orders[job_id], "success")
                self.later(0.05, inp.Terminated(job_id=job_id))
            self.in_room[job_id] = (host.host_id, order.generation)
            self.left_at.pop(job_id, None)
        self._report(host, JobStatus(job_id=job_id, generation=order.generation, phase=phase))

    def _end(self, host: SimHost, order: JobOrder, outcome: str) -> None:
        job_id = order.job_id
        if host.hung:
            return
        host.orders.pop(job_id, None)
        if self.in_room.get(job_id) == (host.host_id, order.generation):
            self.left_at[job_id] = self.clock.now
        status = JobStatus(
            job_id=job_id,
            generation=order.generation,
            phase=JobPhase.ENDED,
            outcome=outcome,
            reason="done",
        )
        self._report(host, status)
        host.statuses.pop(job_id, None)

    def _report(self, host: SimHost, status: JobStatus) -> None:
        host.statuses[status.job_id] = status

        def deliver() -> None:
            if host.watched and not host.cut:
                self.tell(inp.JobReported(host_id=host.host_id, status=status))

        self.later(0.001, deliver)

    def _stop_job(self, command: cmd.StopJob) -> None:
        if self.lose_stops:
            self.lose_stops -= 1
            return
        host = self.hosts.get(command.host_id)
        order = host.orders.get(command.job_id) if host is not None else None
        if host is None or order is None or order.generation != command.generation:
            return

        def stop() -> None:
            if host.alive and host.orders.get(command.job_id) is order:
                self._end(host, order, "success")

        self.later(0.05, stop)

    def _stop_host(self, command: cmd.StopHost) -> None:
        host = self.hosts.get(command.host_id)
        if host is not None:
            host.alive = False
            for job_id, (at, _) in self.in_room.items():
                if at == command.host_id and not host.cut:
                    self.left_at.setdefault(job_id, self.clock.now + ICE_S)
        if command.host_id not in self.told_gone:
            self.later(0.1, inp.HostRetired(host_id=command.host_id))

    # What replicas do.

    def kill_replica(self, replica_id: ReplicaId) -> None:
        self.replicas[replica_id] = False
        self.later(0.01, inp.ReplicaLost(replica_id=replica_id, evidence="its stream broke"))

    def _start_replica(self, command: cmd.StartReplica) -> None:
        assert command.replica_id not in self.replicas, "a replica id was used twice"
        self.replicas[command.replica_id] = True

        def up() -> None:
            if self.replicas.get(command.replica_id):
                where = endpoint(command.replica_id)
                self.tell(inp.ReplicaStarted(replica_id=command.replica_id, endpoint=where))
                self.beat_replica(command.replica_id)

        self.later(1.0, up)

    def beat_replica(self, replica_id: ReplicaId) -> None:
        if not self.replicas.get(replica_id):
            return
        self.tell(
            inp.ReplicaHeartbeatReceived(
                heartbeat=ReplicaHeartbeat(
                    replica_id=replica_id,
                    group=replica_id.rpartition("-")[0],
                    engines=("silero",),
                    endpoint=endpoint(replica_id),
                    device="cpu",
                    streams=self.replica_load.get(replica_id, (0, 0.0))[0],
                    max_streams=8,
                    queue_s=self.replica_load.get(replica_id, (0, 0.0))[1],
                    draining=replica_id in self.draining,
                )
            )
        )
        self.later(1.0, lambda: self.beat_replica(replica_id))

    # Commands.

    def _perform(self, command: cmd.Command) -> None:  # noqa: C901, PLR0912
        match command:
            case cmd.EmitEvent():
                self.events.append(command.event)
                if isinstance(command.event, ev.JobEnded):
                    assert command.event.job_id not in self.ended, "a job ended twice"
                    self.ended.add(command.event.job_id)
                if isinstance(command.event, ev.HostLost | ev.HostRetired | ev.HostStartFailed):
                    self.told_gone.add(command.event.host_id)
            case cmd.AnswerAvailability():
                if command.available and self.assigns:
                    self.later(0.02, self._assignment(command.job_id))
            case cmd.StartHost():
                self._start_host(command)
            case cmd.StopHost():
                self._stop_host(command)
            case cmd.StartJob():
                self._start_job(command)
            case cmd.StopJob():
                self._stop_job(command)
            case cmd.RunRequest():
                self._run_request(command)
            case cmd.CheckRoom():
                self._check_room(command)
            case cmd.StartReplica():
                self._start_replica(command)
            case cmd.DrainReplica():
                self.draining.add(command.replica_id)
            case cmd.StopReplica():
                self.replicas[command.replica_id] = False
                self.later(0.1, inp.ReplicaRetired(replica_id=command.replica_id))
            case cmd.Drained():
                self.drained += 1

    def _assignment(self, job_id: JobId) -> inp.Assigned:
        return inp.Assigned(job_id=job_id, url="ws://lk", token=f"token-{job_id}")

    def _run_request(self, command: cmd.RunRequest) -> None:
        host = self.hosts.get(command.host_id)
        if host is None or not host.alive:
            failed = inp.RequestFailed(
                job_id=command.job_id, host_id=command.host_id, reason="gone"
            )
            self.later(0.01, failed)
        elif self.answers_requests:
            answer = self.request_answer or RequestAnswer(
                accept=AcceptArguments(identity=f"me-{command.job_id}", name="Me")
            )
            answered = inp.RequestAnswered(
                job_id=command.job_id, host_id=command.host_id, answer=answer
            )
            self.later(0.05, answered)

    def _check_room(self, command: cmd.CheckRoom) -> None:
        assert command.room == f"room-{command.job_id}"
        assert command.identity

        def look() -> None:
            if command.job_id in self.rooms_gone:
                answer = inp.RoomAnswer.GONE
            elif self.present(command.job_id):
                answer = inp.RoomAnswer.PRESENT
            else:
                answer = inp.RoomAnswer.ABSENT
            self.later(0.005, inp.RoomChecked(job_id=command.job_id, answer=answer))

        self.later(0.005, look)

    # What has to hold.

    def _check_command(self, command: cmd.Command) -> None:
        match command:
            case cmd.StartJob() | cmd.StopJob() | cmd.RunRequest() | cmd.SetReplicas():
                assert command.host_id not in self.told_gone, f"order to a gone host: {command}"
        match command:
            case cmd.StartJob(order=order):
                # The first placement is 1, each later one the next; an adopted job goes on.
                before = self.generations.get(order.job_id)
                if before is not None:
                    assert order.generation == before + 1
                assert order.job_id not in self.ended, "a job was started after its end"
                self.generations[order.job_id] = order.generation
                # A slot that was promised before a change of the program is kept.
                if order.generation > 1:
                    assert self.hosts[command.host_id].version == self.info.version
            case cmd.AnswerAvailability(job_id=job_id):
                self.answers[job_id] += 1
                assert self.answers[job_id] <= self.offers[job_id], "answered without an offer"
                waited = self.clock.now - self.stalled_s - self.offered_at[job_id]
                assert waited <= 2.5 + 1e-6 or self.offers[job_id] > 1, f"answered after {waited} s"

    def check(self) -> None:
        """Assert what holds after every step."""
        state = self.core._state
        self.check_sums()
        seated: dict[HostId, Counter] = {}
        for job in state.jobs:
            assert (job.host_id is None) == (job.permit is None)
            assert job.job_id not in self.ended or self.offers[job.job_id] > 1
            if job.permit is not None:
                seated.setdefault(job.host_id, Counter())[job.permit.state] += 1
                reserved = job.state is JobState.RESERVED
                assert job.permit.state is (PermitState.RESERVED if reserved else PermitState.USED)
            else:
                assert job.deadline is not None, f"{job} waits for ever"
            waits = job.state in {JobState.OFFERED, JobState.RESERVED} or job.host_id is None
            assert not waits or job.deadline is not None
            assert (job.job_id in state.waiting) == (
                job.host_id is None and job.state is JobState.RESUMING
            )
            assert (job.job_id in state.held) == (job.state is JobState.OFFERED)
        for host in state.hosts:
            slots = state.slots.slots(host.host_id)
            expected = seated.pop(host.host_id, Counter())
            assert slots.reserved == expected[PermitState.RESERVED]
            assert slots.used == expected[PermitState.USED]
            assert 0 <= slots.taken <= max(slots.capacity, 0) or host.found
            if host.state is HostState.READY:
                assert (host.empty_since is None) == bool(slots.taken)
        assert not seated, f"jobs sit on hosts that are gone: {seated}"
        current = [each for each in state.hosts if state.current(each)]
        living = [each for each in current if each.state is not HostState.STOPPING]
        assert len(living) <= self.settings.max_hosts or any(host.found for host in state.hosts)
        assert self.drained <= 1

    def check_sums(self) -> None:
        """Assert that every running total is what a look at all hosts and jobs gives."""
        state, index = self.core._state, self.core._state.index
        views = [state.view(host) for host in state.hosts]
        ready = [view for view in views if view.condition is HostCondition.READY]
        for sums, of in ((index.all, views), (index.ready, ready)):
            assert sums.hosts == len(of)
            assert sums.capacity == sum(view.slots.capacity for view in of)
            assert sums.reserved == sum(view.slots.reserved for view in of)
            assert sums.used == sum(view.slots.used for view in of)
            assert sums.free == sum(view.slots.free for view in of)
            assert sums.own_load == sum(view.own_load for view in of)
        assert Counter({each: index.count(each) for each in HostCondition}) == Counter(
            view.condition for view in views
        )
        assert state.jobs.assigned == sum(job.assignment is not None for job in state.jobs)
        tenants = Counter(job.tenant for job in state.jobs if job.permit and job.tenant)
        assert state.slots.tenants() == tenants
        for state_of in HostState:
            there = [host for host in state.hosts if host.state is state_of]
            assert state.hosts.count(state_of) == len(there)
        told = self.core._told_worker
        if state.registered and state.dirty and told is not None and state.stage is not Stage.OVER:
            free = state.accepting and any(view.slots.free for view in ready)
            assert told.full != free
            assert told.load == 1.0 if told.full else told.load < 0.7

    def settle_all(self) -> None:
        """Let everything that is under way come to its end; then every offer has its answer."""
        self.advance(60.0)
        for job_id, offers in self.offers.items():
            if job_id not in self.withdrawn:
                assert 1 <= self.answers[job_id] <= offers, f"{job_id} was not answered"
        for job in self.core._state.jobs:
            assert job.state in {JobState.RUNNING, JobState.STARTING, JobState.RESUMING}, job
