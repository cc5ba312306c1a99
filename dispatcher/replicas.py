"""Inference replicas: how many run, which of them are alive, and where the hosts find them."""

import random
from collections import OrderedDict
from typing import assert_never

from voxray.actors.contracts import ReplicaEndpoint, ReplicaHeartbeat
from voxray.base.ids import ReplicaId
from voxray.base.settings import InferenceSettings, ReplicaGroupSettings
from voxray.base.timing import Backoff
from voxray.dispatcher.commands import DrainReplica, SetReplicas, StartReplica, StopReplica
from voxray.dispatcher.group_sizes import GroupSizes, least_needed
from voxray.dispatcher.hosts import HostState
from voxray.dispatcher.inputs import (
    ReplicaFailed,
    ReplicaHeartbeatReceived,
    ReplicaInput,
    ReplicaLost,
    ReplicaRetired,
    ReplicaStarted,
    ReplicaWaiting,
)
from voxray.dispatcher.replica_records import ReplicaRecord, ReplicaState
from voxray.dispatcher.state import CoreState
from voxray.dispatcher.warm_pool import StartGate
from voxray.observability import events as ev

LEASE_S = 5.0
"""Silence after which a replica is lost; it reports every second, and its clients see a dead
process at once by themselves."""
STOP_S = 15.0
"""How long a replica has to stop before it is forgotten."""
PAST_KEPT = 1000
"""Replicas remembered after they went, so that a late heartbeat does not bring one back."""
RESTART_BACKOFF = Backoff(first_s=1.0, limit_s=60.0)
DRAIN_S = 60.0
"""How long streams may take to move off a replica; what is left then moves as after a loss."""
TOLD_S = 2.0
"""After so long every host has been told that a replica drains, and a stream that was just being
opened on it is in its count."""

_LIVE = frozenset({ReplicaState.STARTING, ReplicaState.READY})


class ReplicaSet:
    """Keeps every group at the size that its load asks for; tells every host where replicas are.

    The replicas are the app's, not a dispatcher's: one dispatcher owns them; the others only know
    those whose heartbeats they get, tell their own hosts of them, and neither start nor stop nor
    report any.
    """

    def __init__(
        self,
        state: CoreState,
        settings: InferenceSettings,
        rng: random.Random,
        *,
        owner: bool = True,
    ) -> None:
        self._state = state
        self._owner = owner
        self._stopped = False
        self._groups = {group.name: group for group in settings.groups}
        self._sizes = GroupSizes(state, settings.groups)
        self._gates = {name: StartGate(RESTART_BACKOFF, rng) for name in self._groups}
        self._reasons = dict.fromkeys(self._groups, "")
        self._numbers = dict.fromkeys(self._groups, 0)
        self._replicas: dict[ReplicaId, ReplicaRecord] = {}
        self._past: OrderedDict[ReplicaId, None] = OrderedDict()
        self._published: tuple[ReplicaEndpoint, ...] = ()
        self._look_again_at: float | None = None

    def __len__(self) -> int:
        return len(self._replicas)

    def records(self) -> tuple[ReplicaRecord, ...]:
        """Return all replicas."""
        return tuple(self._replicas.values())

    def groups(self) -> tuple[ReplicaGroupSettings, ...]:
        """Return the groups that are kept."""
        return tuple(self._groups.values())

    def wanted(self, group: str) -> int:
        """Return how many replicas a group should have."""
        return self._sizes.wanted(group)

    def failure(self, group: str) -> str:
        """Return why a group's last replica failed, or empty while all is well."""
        return self._reasons.get(group, "")

    def reason(self, group: str) -> str:
        """Return why a group is not complete: what one waits for, or the last failure."""
        waiting = (each for each in self._replicas.values() if each.group == group and each.waiting)
        first = next(waiting, None)
        return self.failure(group) if first is None else f"{first.replica_id} {first.waiting}"

    def endpoints(self) -> tuple[ReplicaEndpoint, ...]:
        """Return the replicas that take streams, in the order of their ids."""
        return tuple(
            ReplicaEndpoint(
                replica_id=replica.replica_id,
                group=replica.group,
                engines=replica.engines,
                address=replica.endpoint.address,
                node=replica.endpoint.node,
            )
            for _, replica in sorted(self._replicas.items())
            if replica.state is ReplicaState.READY and replica.endpoint is not None
        )

    def handle(self, item: ReplicaInput) -> None:
        """Take one input about a replica."""
        match item:
            case ReplicaStarted():
                replica = self._replicas.get(item.replica_id)
                if replica is not None and replica.state is ReplicaState.STARTING:
                    replica.endpoint = item.endpoint
                    replica.waiting = ""
                    replica.deadline = self._state.now + LEASE_S
            case ReplicaWaiting():
                self._waits(item)
            case ReplicaFailed():
                self._gone(item.replica_id, item.reason)
            case ReplicaHeartbeatReceived():
                self._heartbeat(item.heartbeat)
            case ReplicaLost():
                self._gone(item.replica_id, item.evidence)
            case ReplicaRetired():
                self._gone(item.replica_id, "it was stopped")
            case _ as never:
                assert_never(never)

    def found(self, replica_ids: tuple[ReplicaId, ...], *, fresh: bool) -> None:
        """Take in replicas that an earlier dispatcher left running; heartbeats follow.

        Args:
            fresh: nothing at all was left running. Otherwise somebody may still know a replica
                that is gone by now, so numbering goes on from the time in seconds, which no
                earlier count can have reached.
        """
        if not fresh:
            self._numbers = dict.fromkeys(self._groups, int(self._state.wall))
        for replica_id in replica_ids:
            if replica_id not in self._replicas:
                replica = self._add(replica_id, _group_of(replica_id))
                replica.deadline = self._state.now + LEASE_S
        self._sizes.found(self.records())

    def expire(self) -> None:
        """Let go of replicas that are silent or don't stop."""
        now = self._state.now
        for replica in self.records():
            if replica.deadline is not None and now >= replica.deadline:
                self._gone(replica.replica_id, f"no report for {LEASE_S:g} s")
            elif self._owner and self._drained(replica):
                self._stop(replica)

    def keep(self) -> None:
        """Start what is missing, stop what is too many, and publish what changed."""
        state = self._state
        self._look_again_at = None
        # Calls of other dispatchers need them while ours are over.
        if self._owner and state.fleet_known and not self._stopped:
            for group in self._groups.values():
                self._keep_group(group)
            for replica in self.records():
                if replica.group not in self._groups and replica.state in _LIVE:
                    self._let_go(replica)
        endpoints = self.endpoints()
        if endpoints != self._published:
            self._published = endpoints
            for host in state.hosts:
                if host.state is HostState.READY:
                    state.send(SetReplicas(host_id=host.host_id, replicas=endpoints))

    def stop_all(self) -> None:
        """Stop every replica; `ReplicaRetired` tells when each is gone. Others' are let go."""
        self._stopped = True
        if not self._owner:
            self._replicas.clear()
        for replica in self.records():
            self._stop(replica)

    def next_deadline(self) -> float | None:
        """Return when time alone changes something here."""
        times = [each.deadline for each in self._replicas.values() if each.deadline is not None]
        if self._owner:
            draining = ReplicaState.DRAINING
            times += [e.drained_by for e in self._replicas.values() if e.state is draining]
        if self._look_again_at is not None:
            times.append(self._look_again_at)
        return min(times, default=None)

    def _keep_group(self, group: ReplicaGroupSettings) -> None:
        state = self._state
        ours = [each for each in self._replicas.values() if each.group == group.name]
        live = [each for each in ours if each.state in _LIVE]
        gate = self._gates[group.name]
        for each in live:
            if each.state is ReplicaState.READY:
                gate.stands(each.ready_at, state.now)
        wanted = self._sizes.resize(group.name, ours)
        for surplus in least_needed(live)[: max(0, len(live) - wanted)]:
            self._let_go(surplus)
        draining = sum(each.state is ReplicaState.DRAINING for each in ours)
        # One that drains still has its device: within the most, its place becomes free later.
        missing = min(wanted, group.most - draining) - len(live)
        starting = sum(1 for each in live if each.state is ReplicaState.STARTING)
        allowed = gate.allowance(state.now, starting)
        for _ in range(missing if allowed is None else min(missing, allowed)):
            self._numbers[group.name] += 1
            replica_id = ReplicaId(f"{group.name}-{self._numbers[group.name]}")
            self._add(replica_id, group.name)
            state.send(StartReplica(replica_id=replica_id, group=group))
        if missing > 0:
            self._look_again(gate.opens_at(state.now))
        self._look_again(self._sizes.next_look(group.name))

    def _look_again(self, at: float | None) -> None:
        if at is not None:
            self._look_again_at = min(self._look_again_at or at, at)

    def _waits(self, item: ReplicaWaiting) -> None:
        state = self._state
        replica = self._replicas.get(item.replica_id)
        if replica is None or replica.state is not ReplicaState.STARTING:
            state.dirty = False
            return
        if item.reason and item.reason != replica.waiting:
            waits = ev.ReplicaWaiting(
                replica_id=replica.replica_id, group=replica.group, reason=item.reason
            )
            state.emit(waits)
        replica.waiting = item.reason

    def _let_go(self, replica: ReplicaRecord) -> None:
        """End a replica that is not needed; its streams move before."""
        if replica.state is not ReplicaState.READY:
            self._stop(replica, force=True)
            return
        replica.state = ReplicaState.DRAINING
        replica.emptied_from = self._state.now + TOLD_S
        replica.drained_by = self._state.now + DRAIN_S
        self._state.send(DrainReplica(replica_id=replica.replica_id))
        draining = ev.ReplicaDraining(
            replica_id=replica.replica_id, group=replica.group, streams=replica.streams
        )
        self._state.emit(draining)

    def _drained(self, replica: ReplicaRecord) -> bool:
        now = self._state.now
        if replica.state is not ReplicaState.DRAINING:
            return False
        return now >= replica.drained_by or (not replica.streams and now >= replica.emptied_from)

    def _add(self, replica_id: ReplicaId, group: str) -> ReplicaRecord:
        number = replica_id.rpartition("-")[2]
        if group in self._numbers and number.isdecimal():
            self._numbers[group] = max(self._numbers[group], int(number))
        replica = ReplicaRecord(
            replica_id=replica_id,
            group=group,
            state=ReplicaState.STARTING,
            created_at=self._state.now,
        )
        self._replicas[replica_id] = replica
        return replica

    def _stop(self, replica: ReplicaRecord, *, force: bool = False) -> None:
        if replica.state is ReplicaState.STOPPING:
            return
        replica.state = ReplicaState.STOPPING
        replica.deadline = self._state.now + STOP_S
        self._state.send(StopReplica(replica_id=replica.replica_id, force=force))

    def _heartbeat(self, heartbeat: ReplicaHeartbeat) -> None:
        state = self._state
        replica = self._replicas.get(heartbeat.replica_id)
        wanted = self._owner or not self._stopped
        if replica is None and wanted and heartbeat.replica_id not in self._past:
            replica = self._add(heartbeat.replica_id, heartbeat.group)
        if replica is None or replica.state is ReplicaState.STOPPING:
            state.stale_reports += 1
            state.dirty = False
            return
        state.dirty = (
            replica.state is ReplicaState.STARTING
            or replica.endpoint != heartbeat.endpoint
            or replica.engines != heartbeat.engines
        )
        replica.endpoint = heartbeat.endpoint
        replica.engines = heartbeat.engines
        replica.device = heartbeat.device
        replica.streams = heartbeat.streams
        replica.queue_s = heartbeat.queue_s
        replica.waiting = ""
        replica.deadline = state.now + LEASE_S
        if heartbeat.draining and replica.state is not ReplicaState.DRAINING:
            # An earlier dispatcher, or the one that owns it, has told it to.
            replica.state = ReplicaState.DRAINING
            replica.emptied_from, replica.drained_by = state.now, state.now + DRAIN_S
            state.dirty = True
        if self._owner and self._drained(replica):
            self._stop(replica)
        elif self._owner and not self._stopped and replica.group in self._groups:
            before = self._sizes.wanted(replica.group)
            if self._sizes.resize(replica.group, self.records()) != before:
                state.dirty = True
        if replica.state is ReplicaState.STARTING:
            replica.state = ReplicaState.READY
            replica.ready_at = state.now
            self._reasons[replica.group] = ""
            if self._owner:
                state.emit(
                    ev.ReplicaReady(
                        replica_id=replica.replica_id, group=replica.group, device=replica.device
                    )
                )

    def _gone(self, replica_id: ReplicaId, reason: str) -> None:
        state = self._state
        replica = self._replicas.pop(replica_id, None)
        if replica is None or not self._owner:
            # Another's may have been out of our sight only, and come back.
            return
        self._past[replica_id] = None
        if len(self._past) > PAST_KEPT:
            self._past.popitem(last=False)
        if replica.state is ReplicaState.STOPPING:
            return
        # Dead, or silent: nothing that it would have to answer first.
        state.send(StopReplica(replica_id=replica_id, force=True))
        was_ready = replica.state is ReplicaState.READY
        self._reasons[replica.group] = reason
        if (gate := self._gates.get(replica.group)) is not None:
            if was_ready:
                gate.lost(replica.ready_at, state.now)
            elif replica.state is ReplicaState.STARTING:
                gate.failed(state.now)
        state.emit(
            ev.ReplicaLost(
                replica_id=replica_id, group=replica.group, reason=reason, was_ready=was_ready
            )
        )


def _group_of(replica_id: ReplicaId) -> str:
    return replica_id.rpartition("-")[0]
