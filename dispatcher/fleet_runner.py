"""Carries the core's fleet commands out and tells it what the actors report."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from voxray.actors.contracts import (
    Endpoint,
    HostHeartbeat,
    HostSnapshot,
    JobChanged,
    LoopBlocked,
    LoopFreed,
    ProgramInfo,
    ReplicaHeartbeat,
    Report,
    TurnReport,
)
from voxray.base.channel import Channel
from voxray.base.errors import StreamEndedError, VoxrayError
from voxray.base.ids import HostId, ReplicaId
from voxray.base.lifecycle import TaskOwner
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.fleet import FleetGateway

logger = logging.getLogger(__name__)

# Orders to one host that may wait while the one before is delivered: a burst of calls on a host
# and the ends of as many; more means that the host hangs, which its lease tells.
_ORDERS_LIMIT = 1024
# How long a new replica of another dispatcher may stay unknown to our hosts.
_FOLLOW_S = 2.0

FleetCommand: TypeAlias = (
    cmd.StartHost
    | cmd.StopHost
    | cmd.StartReplica
    | cmd.StopReplica
    | cmd.DrainReplica
    | cmd.RunRequest
    | cmd.StartJob
    | cmd.StopJob
    | cmd.SetReplicas
)
_Order: TypeAlias = cmd.StartJob | cmd.StopJob | cmd.SetReplicas


@dataclass(frozen=True, kw_only=True)
class _Next:
    """The next report of a stream, or why there is none."""

    report: Report | None = None
    evidence: str = ""


async def _next(reports: AsyncIterator[Report]) -> _Next:
    """Only what the stream itself raises ends it: a fault in handling a report does not."""
    try:
        return _Next(report=await anext(reports))
    except StopAsyncIteration:
        return _Next(evidence="its report stream ended")
    except VoxrayError as error:
        return _Next(evidence=str(error))


class FleetRunner:
    """Owns the tasks that start, watch, order and stop actors, for one event loop.

    Orders to a host are delivered one after the other, in the order given; everything else runs
    on its own.
    """

    def __init__(
        self,
        fleet: FleetGateway,
        tell: Callable[[inp.Input], None],
        resign: Callable[[str], str],
    ) -> None:
        """Prepare a runner.

        Args:
            fleet: the gateway to the actors.
            tell: takes what happened, at once and on this loop.
            resign: signs the claims of a token anew; raises VoxrayError.
        """
        self._fleet = fleet
        self._tell = tell
        self._resign = resign
        self._tasks = TaskOwner("fleet-runner")
        self._hosts: dict[HostId, Endpoint] = {}
        self._replicas: dict[ReplicaId, Endpoint] = {}
        self._orders: dict[HostId, Channel[_Order]] = {}

    @property
    def hosts(self) -> dict[HostId, Endpoint]:
        """Hosts that are watched, with their addresses."""
        return dict(self._hosts)

    @property
    def replicas(self) -> dict[ReplicaId, Endpoint]:
        """Replicas that are watched, with their addresses."""
        return dict(self._replicas)

    async def find(self) -> None:
        """Find what an earlier dispatcher left running and watch it.

        Raises:
            VoxrayError: the cluster can't be asked.
        """
        found = await self._fleet.find()
        self._tell(inp.FleetFound(hosts=tuple(found.hosts), replicas=tuple(found.replicas)))
        for host_id, endpoint in found.hosts.items():
            self._host_is_up(host_id, endpoint)
        for replica_id, endpoint in found.replicas.items():
            self._replica_is_up(replica_id, endpoint)

    def follow_replicas(self) -> None:
        """Watch the replicas that another dispatcher starts, from soon after it did."""
        self._tasks.spawn("follow-replicas", self._follow_replicas())

    async def _follow_replicas(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOW_S)
            try:
                found = await self._fleet.find_replicas()
            except VoxrayError as error:
                logger.warning("can't look for replicas", extra={"error": str(error)})
                continue
            for replica_id, endpoint in found.items():
                if replica_id not in self._replicas:
                    self._replica_is_up(replica_id, endpoint)

    def run(self, command: FleetCommand) -> None:
        """Begin to carry a command out; what comes of it is told."""
        match command:
            case cmd.StartHost(host_id=host_id, program=program):
                self._tasks.spawn(f"start-host-{host_id}", self._start_host(host_id, program))
            case cmd.StopHost(host_id=host_id):
                self._tasks.spawn(f"stop-host-{host_id}", self._stop_host(command))
            case cmd.StartReplica(replica_id=replica_id):
                self._tasks.spawn(f"start-replica-{replica_id}", self._start_replica(command))
            case cmd.StopReplica(replica_id=replica_id):
                self._tasks.spawn(f"stop-replica-{replica_id}", self._stop_replica(command))
            case cmd.DrainReplica(replica_id=replica_id):
                self._tasks.spawn(f"drain-replica-{replica_id}", self._drain_replica(replica_id))
            case cmd.RunRequest(host_id=host_id):
                self._tasks.spawn(f"request-{command.job_id}", self._request(command))
            case cmd.StartJob() | cmd.StopJob() | cmd.SetReplicas():
                self._order(command)
            case _:
                assert_never(command)

    async def aclose(self) -> None:
        """Stop watching and ordering; actors go on. Idempotent."""
        await self._tasks.aclose()
        await self._fleet.aclose()

    async def _start_host(self, host_id: HostId, program: ProgramInfo) -> None:
        try:
            endpoint = await self._fleet.start_host(host_id, program)
        except VoxrayError as error:
            failed = inp.HostFailed(host_id=host_id, reason=str(error), details=error.details)
            self._tell(failed)
            return
        self._host_is_up(host_id, endpoint)

    def _host_is_up(self, host_id: HostId, endpoint: Endpoint) -> None:
        self._hosts[host_id] = endpoint
        self._tell(inp.HostStarted(host_id=host_id, endpoint=endpoint))
        self._tasks.spawn(f"watch-host-{host_id}", self._watch_host(host_id, endpoint))

    async def _stop_host(self, command: cmd.StopHost) -> None:
        host_id = command.host_id
        # Forgotten first: its stream will break, and that is no loss.
        self._forget_host(host_id)
        await self._fleet.stop_host(host_id, force=command.force)
        self._tell(inp.HostRetired(host_id=host_id))

    def _forget_host(self, host_id: HostId) -> None:
        self._hosts.pop(host_id, None)
        if (orders := self._orders.pop(host_id, None)) is not None:
            orders.close()

    async def _watch_host(self, host_id: HostId, endpoint: Endpoint) -> None:
        reports = self._fleet.watch(endpoint)
        while (report := await _next(reports)).report is not None:
            if host_id not in self._hosts:
                return
            self._tell_report(host_id, report.report)
        if host_id in self._hosts:
            self._forget_host(host_id)
            self._tell(inp.HostLost(host_id=host_id, evidence=report.evidence))

    def _tell_report(self, host_id: HostId, report: Report) -> None:
        match report:
            case HostSnapshot():
                self._tell(inp.HostSnapshotReceived(snapshot=report))
            case HostHeartbeat():
                self._tell(inp.HostHeartbeatReceived(heartbeat=report))
            case JobChanged(status=status):
                self._tell(inp.JobReported(host_id=host_id, status=status))
            case LoopBlocked() | LoopFreed():
                self._tell(inp.LoopReported(host_id=host_id, report=report))
            case TurnReport():
                self._tell(inp.TurnReported(report=report))
            case ReplicaHeartbeat():
                logger.warning("a host reported as a replica", extra={"host_id": host_id})
            case _:
                assert_never(report)

    async def _start_replica(self, command: cmd.StartReplica) -> None:
        replica_id = command.replica_id

        def waits(reason: str) -> None:
            self._tell(inp.ReplicaWaiting(replica_id=replica_id, reason=reason))

        try:
            endpoint = await self._fleet.start_replica(replica_id, command.group, waits)
        except VoxrayError as error:
            reason = f"{replica_id} did not start: {error}"
            self._tell(inp.ReplicaFailed(replica_id=replica_id, reason=reason))
            return
        self._replica_is_up(replica_id, endpoint)

    def _replica_is_up(self, replica_id: ReplicaId, endpoint: Endpoint) -> None:
        self._replicas[replica_id] = endpoint
        self._tell(inp.ReplicaStarted(replica_id=replica_id, endpoint=endpoint))
        self._tasks.spawn(f"watch-replica-{replica_id}", self._watch_replica(replica_id, endpoint))

    async def _drain_replica(self, replica_id: ReplicaId) -> None:
        try:
            await self._fleet.drain_replica(replica_id)
        except VoxrayError as error:
            # Its streams move all the same: the hosts are told of it as well.
            details = {"replica_id": replica_id, "error": str(error)}
            logger.info("a replica could not be told to drain", extra=details)

    async def _stop_replica(self, command: cmd.StopReplica) -> None:
        replica_id = command.replica_id
        self._replicas.pop(replica_id, None)
        await self._fleet.stop_replica(replica_id, force=command.force)
        self._tell(inp.ReplicaRetired(replica_id=replica_id))

    async def _watch_replica(self, replica_id: ReplicaId, endpoint: Endpoint) -> None:
        reports = self._fleet.watch(endpoint)
        while (report := await _next(reports)).report is not None:
            if replica_id not in self._replicas:
                return
            if isinstance(report.report, ReplicaHeartbeat):
                self._tell(inp.ReplicaHeartbeatReceived(heartbeat=report.report))
        if replica_id in self._replicas:
            del self._replicas[replica_id]
            self._tell(inp.ReplicaLost(replica_id=replica_id, evidence=report.evidence))

    async def _request(self, command: cmd.RunRequest) -> None:
        try:
            async with asyncio.timeout(command.timeout_s):
                answer = await self._fleet.request(command.host_id, command.job)
        except (VoxrayError, TimeoutError) as error:
            reason = str(error) or f"no answer within {command.timeout_s:g} s"
            self._tell(
                inp.RequestFailed(job_id=command.job_id, host_id=command.host_id, reason=reason)
            )
            return
        self._tell(
            inp.RequestAnswered(job_id=command.job_id, host_id=command.host_id, answer=answer)
        )

    def _order(self, order: _Order) -> None:
        host_id = order.host_id
        if host_id not in self._hosts:
            self._refused(order, f"host {host_id} is gone")
            return
        orders = self._orders.get(host_id)
        if orders is None:
            orders = self._orders[host_id] = Channel(_ORDERS_LIMIT)
            self._tasks.spawn(f"order-host-{host_id}", self._deliver(orders))
        if not orders.try_send(order):
            self._refused(order, f"{_ORDERS_LIMIT} orders wait for host {host_id}: it hangs")

    async def _deliver(self, orders: Channel[_Order]) -> None:
        while True:
            try:
                order = await orders.receive()
            except StreamEndedError:
                return
            try:
                await self._deliver_one(order)
            except VoxrayError as error:
                self._refused(order, str(error))

    async def _deliver_one(self, command: _Order) -> None:
        match command:
            case cmd.StartJob(host_id=host_id, order=order):
                if command.resign_token:
                    order = order.model_copy(update={"token": self._resign(order.token)})
                await self._fleet.start_job(host_id, order)
            case cmd.StopJob(host_id=host_id):
                await self._fleet.stop_job(
                    host_id, command.job_id, command.generation, command.reason
                )
            case cmd.SetReplicas(host_id=host_id, replicas=replicas):
                await self._fleet.set_replicas(host_id, replicas)
            case _:
                assert_never(command)

    def _refused(self, command: _Order, reason: str) -> None:
        if isinstance(command, cmd.StartJob):
            order = command.order
            self._tell(
                inp.JobStartFailed(
                    host_id=command.host_id,
                    job_id=order.job_id,
                    generation=order.generation,
                    reason=reason,
                )
            )
        else:
            # A stop or a new table of replicas is moot once the host is gone; the watch tells.
            logger.warning(
                "an order did not reach its host",
                extra={
                    "order": type(command).__name__,
                    "host_id": command.host_id,
                    "reason": reason,
                },
            )
