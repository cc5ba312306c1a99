"""A fleet in memory for unit tests: starts, orders and deaths are up to the test."""

import asyncio
from collections.abc import AsyncIterator, Callable

from voxray.actors.contracts import (
    Endpoint,
    JobOrder,
    ProgramInfo,
    ReplicaEndpoint,
    Report,
    RequestAnswer,
)
from voxray.base.errors import ActorStartError, ConnectionFailedError
from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.base.settings import ReplicaGroupSettings
from voxray.dispatcher.fleet import DispatcherEndedError, Found


def endpoint(name: str) -> Endpoint:
    return Endpoint(address=f"{name}:1", metrics=f"{name}:2", node="n1", pid=7)


class FakeFleet:
    """Implements `FleetGateway`; `calls` records the orders in the order of their delivery."""

    def __init__(self) -> None:
        self.found = Found(hosts={}, replicas={})
        self.calls: list[tuple[object, ...]] = []
        self._called = asyncio.Condition()
        self.start_errors: dict[str, str] = {}
        self.waits: dict[ReplicaId, tuple[str, ...]] = {}
        self.job_errors: dict[JobId, ConnectionFailedError] = {}
        self.answer: RequestAnswer | None = None
        self.gate: asyncio.Event | None = None
        self.closed = False
        self.dispatchers: dict[int, object] = {}
        self._streams: dict[str, asyncio.Queue[Report | None]] = {}

    def _stream(self, address: str) -> asyncio.Queue[Report | None]:
        return self._streams.setdefault(address, asyncio.Queue())

    async def until_calls(self, count: int) -> None:
        async with self._called, asyncio.timeout(5):
            await self._called.wait_for(lambda: len(self.calls) >= count)

    async def _record(self, *call: object) -> None:
        async with self._called:
            self.calls.append(call)
            self._called.notify_all()

    def report(self, name: str, report: Report) -> None:
        self._stream(f"{name}:1").put_nowait(report)

    def die(self, name: str) -> None:
        self._stream(f"{name}:1").put_nowait(None)

    async def find(self) -> Found:
        return self.found

    async def find_replicas(self) -> dict[ReplicaId, Endpoint]:
        return dict(self.found.replicas)

    async def ask_dispatcher(self, index: int, question: str, argument: object) -> object:
        await self._record("ask_dispatcher", index, question, argument)
        if index not in self.dispatchers:
            raise DispatcherEndedError(f"there is no dispatcher {index}")
        return self.dispatchers[index]

    async def start_host(self, host_id: HostId, program: ProgramInfo) -> Endpoint:
        return await self._start(host_id)

    async def start_replica(
        self,
        replica_id: ReplicaId,
        group: ReplicaGroupSettings,
        on_waiting: Callable[[str], None],
    ) -> Endpoint:
        for reason in self.waits.get(replica_id, ()):
            on_waiting(reason)
        return await self._start(replica_id)

    async def _start(self, name: str) -> Endpoint:
        if name in self.start_errors:
            raise ActorStartError(self.start_errors[name])
        return endpoint(name)

    async def stop_host(self, host_id: HostId, *, force: bool = False) -> None:
        await self._record("stop_host", host_id, force)
        self.die(host_id)

    async def drain_replica(self, replica_id: ReplicaId) -> None:
        await self._record("drain_replica", replica_id)

    async def stop_replica(self, replica_id: ReplicaId, *, force: bool = False) -> None:
        await self._record("stop_replica", replica_id, force)
        self.die(replica_id)

    async def request(self, host_id: HostId, job: bytes) -> RequestAnswer:
        if self.answer is None:
            await asyncio.Event().wait()
        assert self.answer is not None
        return self.answer

    async def start_job(self, host_id: HostId, order: JobOrder) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if order.job_id in self.job_errors:
            raise self.job_errors[order.job_id]
        await self._record("start_job", host_id, order.job_id, order.token)

    async def stop_job(self, host_id: HostId, job_id: JobId, generation: int, reason: str) -> None:
        await self._record("stop_job", host_id, job_id, generation)

    async def set_replicas(self, host_id: HostId, replicas: tuple[ReplicaEndpoint, ...]) -> None:
        await self._record("set_replicas", host_id, replicas)

    async def watch(self, endpoint: Endpoint) -> AsyncIterator[Report]:
        stream = self._stream(endpoint.address)
        while (report := await stream.get()) is not None:
            yield report
        raise ConnectionFailedError(f"{endpoint.address} broke")

    async def aclose(self) -> None:
        self.closed = True
