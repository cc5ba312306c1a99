"""Which hosts there are: started, ready, silent, lost, retired, and how many there should be."""

import random
from collections.abc import Callable
from typing import assert_never

from voxray.actors.contracts import HostHeartbeat, HostSnapshot, JobPhase, JobStatus, ProgramInfo
from voxray.base.ids import HostId
from voxray.base.timing import Backoff
from voxray.dispatcher.commands import SetReplicas, StartHost, StopHost
from voxray.dispatcher.hosts import ADOPTION_S, HostRecord, HostState
from voxray.dispatcher.inputs import (
    HostFailed,
    HostHeartbeatReceived,
    HostInput,
    HostLost,
    HostRetired,
    HostSnapshotReceived,
    HostStarted,
)
from voxray.dispatcher.jobs import JobState, Loss
from voxray.dispatcher.offers import OfferDesk
from voxray.dispatcher.placement import HostCondition
from voxray.dispatcher.replicas import ReplicaSet
from voxray.dispatcher.state import CoreState, Stage
from voxray.dispatcher.supervisor import LossKind, Supervisor
from voxray.dispatcher.warm_pool import Linger, Pool, PoolPlan, StartFailures, StartGate, plan
from voxray.observability import events as ev

START_GRACE_S = 5.0
"""Added to `start_timeout_s`: the gateway's own deadline comes first and knows the reason."""
STOP_S = 15.0
"""How long an empty host has to stop by itself before it is killed."""
START_BACKOFF = Backoff(first_s=0.5, limit_s=30.0)
RETIRED_AT_ONCE = 16
"""Hosts that one plan retires at most; the next one follows in the same step."""
_SPENT = "its one call is over"
_OUTDATED = "it runs another version of the program"


class Membership:
    """Keeps the table of hosts true, and hands the jobs of a lost one on."""

    def __init__(
        self,
        state: CoreState,
        supervisor: Supervisor,
        offers: OfferDesk,
        replicas: ReplicaSet,
        rng: random.Random,
    ) -> None:
        self._state = state
        self._supervisor = supervisor
        self._offers = offers
        self._replicas = replicas
        self._gate = StartGate(START_BACKOFF, rng)
        self._linger = Linger()
        self._failures = StartFailures()
        self._look_again_at: float | None = None

    def handle(self, item: HostInput) -> None:
        """Take one input about a host."""
        match item:
            case HostStarted():
                if (host := self._state.hosts.get(item.host_id)) is not None:
                    host.endpoint = item.endpoint
            case HostFailed():
                self._start_failed(item.host_id, item.reason, item.details)
            case HostSnapshotReceived():
                self._snapshot(item.snapshot)
            case HostHeartbeatReceived():
                self._heartbeat(item.heartbeat)
            case HostLost():
                if (host := self._state.hosts.get(item.host_id)) is not None:
                    self._gone(host, "host_died", item.evidence)
            case HostRetired():
                if (host := self._state.hosts.get(item.host_id)) is not None:
                    self._gone(host, "host_died", "it was stopped")
            case _ as never:
                assert_never(never)

    def found(self, host_ids: tuple[HostId, ...]) -> None:
        """Take in hosts that an earlier dispatcher left running; their snapshots follow."""
        for host_id in host_ids:
            if host_id not in self._state.hosts and not self._state.hosts.is_gone(host_id):
                self._add(host_id, ADOPTION_S, found=True)

    def expire(self) -> None:
        """Let go of hosts whose lease, start or stop took too long."""
        state = self._state
        for host in state.hosts.due(state.now):
            if not state.hosts.expired(host, state.now):
                continue
            if host.state is HostState.STARTING and not host.found:
                self._start_failed(host.host_id, "it was not ready in time")
            else:
                silence = state.now - host.last_sign
                self._gone(host, "host_silent", f"no report for {silence:.1f} s")

    def stop(self, host: HostRecord, reason: str, *, force: bool = False) -> None:
        """Stop a host on purpose, if it is not being stopped so; `HostRetired` tells its end."""
        if host.state is HostState.STOPPING and (host.killed or not force):
            return
        now = self._state.now
        host.stop_reason = host.stop_reason or reason
        self._state.hosts.stopping(host, now, now + STOP_S, killed=force)
        self._state.send(StopHost(host_id=host.host_id, force=force))

    def change_program(self, program: ProgramInfo) -> None:
        """Make a program the current one; hosts of another version end with their last call."""
        state = self._state
        state.program = program
        for host in state.hosts:
            state.refresh(host)
            if host.state is HostState.STARTING and not state.current(host):
                self.stop(host, _OUTDATED, force=True)
        state.emit(ev.ProgramChanged(version=program.version))

    def keep_pool(self, new_host_id: Callable[[], HostId]) -> None:
        """Start and retire hosts by the plan; outdated ones go as soon as they are empty."""
        state = self._state
        self._look_again_at = None
        if not state.fleet_known or state.stage not in {Stage.SERVING, Stage.DRAINING}:
            return
        while outdated := state.index.longest_empty(HostCondition.OUTDATED, RETIRED_AT_ONCE):
            self._retire(tuple(host_id for _, host_id in outdated), _OUTDATED)
        while spent := state.index.longest_empty(HostCondition.SPENT, RETIRED_AT_ONCE):
            self._retire(tuple(host_id for _, host_id in spent), _SPENT)
        todo = self._plan()
        while todo.retire:
            self._retire(todo.retire, "empty beyond the pool")
            self._linger.retired(state.now)
            todo = self._plan()
        allowed = self._gate.allowance(state.now, state.hosts.count(HostState.STARTING))
        starts = todo.start if allowed is None else min(todo.start, allowed)
        for _ in range(starts):
            host_id = new_host_id()
            self._add(host_id, self._start_limit_s(), found=False)
            self._linger.started(state.now)
            state.send(StartHost(host_id=host_id, program=state.program))
            state.emit(ev.HostStarting(host_id=host_id))
        opens_at = self._gate.opens_at(state.now) if todo.start > starts else None
        self._look_again_at = opens_at if opens_at is not None else todo.look_again_at

    def next_deadline(self) -> float | None:
        """Return when time alone changes something here."""
        times = (self._look_again_at, self._state.hosts.next_deadline(self._state.now))
        return min((time for time in times if time is not None), default=None)

    def _plan(self) -> PoolPlan:
        state = self._state
        return plan(
            self._pool(),
            state.settings,
            state.now,
            growing=state.accepting,
            linger_s=self._linger.seconds,
        )

    def _pool(self) -> Pool:
        state, index = self._state, self._state.index
        if self._gate.failures:
            for host in state.hosts.ready_since(self._gate.failed_at):
                if state.condition(host) is HostCondition.READY:
                    self._gate.stands(host.ready_at, state.now)
        return Pool(
            ready=index.ready.hosts,
            free=index.ready.free,
            empty=index.empty(HostCondition.READY),
            longest_empty=index.longest_empty(HostCondition.READY, RETIRED_AT_ONCE),
            starting=index.count(HostCondition.STARTING),
            others=index.others(),
            waiting=len(state.waiting) + len(state.held) + state.line.claims(state.now),
            expected=state.demand.expected(state.now),
        )

    def _retire(self, host_ids: tuple[HostId, ...], reason: str) -> None:
        for host_id in host_ids:
            if (host := self._state.hosts.get(host_id)) is not None:
                self.stop(host, reason)

    def _start_limit_s(self) -> float:
        """Return how long a start may take: the imports and, after them, `setup_fnc`."""
        state = self._state
        return state.settings.start_timeout_s + state.program.initialize_timeout_s + START_GRACE_S

    def _add(self, host_id: HostId, ready_within_s: float, *, found: bool) -> HostRecord:
        now = self._state.now
        host = HostRecord(
            host_id=host_id,
            state=HostState.STARTING,
            created_at=now,
            found=found,
            deadline=now + ready_within_s,
            last_sign=now,
            version=None if found else self._state.program.version,
        )
        self._state.hosts.add(host)
        return host

    def _start_failed(self, host_id: HostId, reason: str, details: tuple[str, ...] = ()) -> None:
        state = self._state
        host = state.hosts.get(host_id)
        if host is None:
            return
        if host.state is not HostState.STARTING:
            self._gone(host, "host_died", reason)
            return
        state.hosts.remove(host_id)
        self._gate.failed(state.now)
        state.send(StopHost(host_id=host_id, force=True))
        repeats = self._failures.count(reason)
        state.emit(
            ev.HostStartFailed(
                host_id=host_id,
                reason=reason,
                details=details if repeats == 1 else (),
                repeats=repeats,
            )
        )

    def _snapshot(self, snapshot: HostSnapshot) -> None:
        state = self._state
        host_id = snapshot.host_id
        host = state.hosts.get(host_id)
        if host is None:
            if state.hosts.is_gone(host_id):
                # It was given up and its jobs went elsewhere: it must not come back.
                state.stale_reports += 1
                state.send(StopHost(host_id=host_id, force=True))
                return
            host = self._add(host_id, ADOPTION_S, found=True)
        host.endpoint = snapshot.endpoint
        host.single_use = snapshot.single_use
        state.hosts.reported(host, state.now, snapshot.version)
        if state.stage in {Stage.STOPPING_FLEET, Stage.OVER}:
            return
        if host.state is HostState.STOPPING and not state.slots.knows(host_id):
            return
        state.slots.add_host(host_id, snapshot.capacity)
        if host.state is HostState.STARTING:
            if not host.found:
                state.demand.started(state.now - host.created_at)
                self._failures.succeeded()
            state.hosts.started(host, state.now)
            state.emit(ev.HostReady(host_id=host_id, seconds=state.now - host.created_at))
            state.send(SetReplicas(host_id=host_id, replicas=self._replicas.endpoints()))
        self._compare(host_id, snapshot)
        if snapshot.spent and not snapshot.orders:
            state.hosts.spend(host)

    def _compare(self, host_id: HostId, snapshot: HostSnapshot) -> None:
        """Bring what a host says it runs and what we think it runs together."""
        state = self._state
        statuses = {(each.job_id, each.generation): each for each in snapshot.statuses}
        for order in snapshot.orders:
            default = JobStatus(
                job_id=order.job_id, generation=order.generation, phase=JobPhase.STARTING
            )
            status = statuses.pop((order.job_id, order.generation), default)
            self._supervisor.adopt(host_id, order, status)
        for status in statuses.values():
            self._supervisor.reported(host_id, status)
        known = {(order.job_id, order.generation) for order in snapshot.orders}
        for job in state.jobs.on_host(host_id):
            # Without a phase its order may still be on its way; with one, its end was missed.
            if job.phase is not None and (job.job_id, job.generation) not in known:
                self._supervisor.vanished(job)

    def _heartbeat(self, heartbeat: HostHeartbeat) -> None:
        state = self._state
        host = state.hosts.get(heartbeat.host_id)
        if host is None or heartbeat.sequence <= host.sequence:
            state.stale_reports += 1
            state.dirty = False
            return
        host.loop_lag_s = heartbeat.loop_lag_s
        # Most heartbeats change nothing that anybody waits for.
        state.dirty = state.hosts.beat(host, state.now, heartbeat.sequence, heartbeat.load)

    def _gone(self, host: HostRecord, kind: LossKind, evidence: str) -> None:
        """A host is no more: fence it, and hand its jobs on, those with a caller first."""
        state = self._state
        if host.state is HostState.STARTING and not host.found:
            self._start_failed(host.host_id, evidence)
            return
        jobs = state.jobs.on_host(host.host_id)
        self._tell_gone(host, kind, evidence, len(jobs))
        state.hosts.remove(host.host_id)
        loss = Loss(
            kind=kind, from_host=host.host_id, last_sign=host.last_sign, detected_at=state.now
        )
        promised = [job for job in jobs if job.state is JobState.RESERVED]
        for job in jobs:
            if job.state is not JobState.RESERVED:
                self._supervisor.job_lost(job, f"{kind}: {evidence}", loss)
        self._supervisor.place_waiting()
        for job in promised:
            self._offers.host_lost(job)
        state.slots.remove_host(host.host_id)

    def _tell_gone(self, host: HostRecord, kind: LossKind, evidence: str, jobs: int) -> None:
        state = self._state
        if host.state is HostState.STOPPING:
            if kind == "host_silent":
                state.send(StopHost(host_id=host.host_id, force=True))
            state.emit(ev.HostRetired(host_id=host.host_id, reason=host.stop_reason))
            return
        # Whatever is left of it must not go on beside its successor.
        state.send(StopHost(host_id=host.host_id, force=True))
        if host.state is HostState.READY and not host.found:
            self._gate.lost(host.ready_at, state.now)
        state.emit(ev.HostLost(host_id=host.host_id, kind=kind, evidence=evidence, jobs=jobs))
