"""Inference replicas: how many run, which of them are alive, and where the hosts find them."""

import random
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from voxray.actors.contracts import Endpoint, ReplicaEndpoint, ReplicaHeartbeat
from voxray.base.ids import ReplicaId
from voxray.base.settings import InferenceSettings, ReplicaGroupSettings
from voxray.base.timing import Backoff
from voxray.dispatcher.commands import SetReplicas, StartReplica, StopReplica
from voxray.dispatcher.hosts import HostState
from voxray.dispatcher.inputs import (
    ReplicaFailed,
    ReplicaHeartbeatReceived,
    ReplicaInput,
    ReplicaLost,
    ReplicaRetired,
    ReplicaStarted,
)
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


class ReplicaState(StrEnum):
    """STARTING -> READY -> STOPPING; one that is lost or stopped is no longer in the set."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(kw_only=True)
class ReplicaRecord:
    """One replica. `deadline`: when its state has lasted too long; a start has its own limit."""

    replica_id: ReplicaId
    group: str
    state: ReplicaState
    created_at: float
    deadline: float | None = None
    endpoint: Endpoint | None = None
    engines: tuple[str, ...] = ()
    device: str = ""
    streams: int = 0
    queue_s: float = 0.0
    ready_at: float = 0.0


class ReplicaSet:
    """Keeps every group at its size, and every host told where its replicas are.

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

    def reason(self, group: str) -> str:
        """Return why a group's last replica failed, or empty while all is well."""
        return self._reasons.get(group, "")

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
                    replica.deadline = self._state.now + LEASE_S
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

    def expire(self) -> None:
        """Let go of replicas that are silent or don't stop."""
        now = self._state.now
        for replica in self.records():
            if replica.deadline is not None and now >= replica.deadline:
                self._gone(replica.replica_id, f"no report for {LEASE_S:g} s")

    def keep(self) -> None:
        """Start what is missing, stop what is too many, and publish what changed."""
        state = self._state
        self._look_again_at = None
        # Calls of other dispatchers need them while ours are over.
        if self._owner and state.fleet_known and not self._stopped:
            for group in self._groups.values():
                self._keep_group(group)
            for replica in self.records():
                if replica.group not in self._groups:
                    self._stop(replica)
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
        if self._look_again_at is not None:
            times.append(self._look_again_at)
        return min(times, default=None)

    def _keep_group(self, group: ReplicaGroupSettings) -> None:
        state = self._state
        live = [
            each
            for each in self._replicas.values()
            if each.group == group.name and each.state is not ReplicaState.STOPPING
        ]
        for surplus in live[group.replicas :]:
            self._stop(surplus)
        gate = self._gates[group.name]
        for each in live:
            if each.state is ReplicaState.READY:
                gate.stands(each.ready_at, state.now)
        missing = group.replicas - len(live)
        starting = sum(1 for each in live if each.state is ReplicaState.STARTING)
        allowed = gate.allowance(state.now, starting)
        for _ in range(missing if allowed is None else min(missing, allowed)):
            self._numbers[group.name] += 1
            replica_id = ReplicaId(f"{group.name}-{self._numbers[group.name]}")
            self._add(replica_id, group.name)
            state.send(StartReplica(replica_id=replica_id, group=group))
        opens_at = gate.opens_at(state.now)
        if missing > 0 and opens_at is not None:
            self._look_again_at = min(self._look_again_at or opens_at, opens_at)

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

    def _stop(self, replica: ReplicaRecord) -> None:
        if replica.state is ReplicaState.STOPPING:
            return
        replica.state = ReplicaState.STOPPING
        replica.deadline = self._state.now + STOP_S
        self._state.send(StopReplica(replica_id=replica.replica_id))

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
        replica.deadline = state.now + LEASE_S
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
        state.send(StopReplica(replica_id=replica_id))
        was_ready = replica.state is ReplicaState.READY
        self._reasons[replica.group] = reason
        if (gate := self._gates.get(replica.group)) is not None:
            if was_ready:
                gate.lost(replica.ready_at, state.now)
            else:
                gate.failed(state.now)
        state.emit(
            ev.ReplicaLost(
                replica_id=replica_id, group=replica.group, reason=reason, was_ready=was_ready
            )
        )


def _group_of(replica_id: ReplicaId) -> str:
    return replica_id.rpartition("-")[0]
