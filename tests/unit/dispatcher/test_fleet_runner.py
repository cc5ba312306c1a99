"""Fleet commands are carried out in order, and everything that comes of them is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.dispatch_world import program
from tests.fakes.fleet import FakeFleet, endpoint
from voxray.actors.contracts import (
    AcceptArguments,
    HostHeartbeat,
    JobOrder,
    PlacementCause,
    RequestAnswer,
)
from voxray.base.errors import ConnectionFailedError, InvalidTransitionError
from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.base.settings import ReplicaGroupSettings
from voxray.dispatcher import commands as cmd
from voxray.dispatcher import inputs as inp
from voxray.dispatcher.fleet import Found
from voxray.dispatcher.fleet_runner import FleetRunner

HOST = HostId("aa")
REPLICA = ReplicaId("speech-1")


class Told:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[inp.Input] = asyncio.Queue()

    def __call__(self, message: inp.Input) -> None:
        self._queue.put_nowait(message)

    async def next(self) -> inp.Input:
        return await asyncio.wait_for(self._queue.get(), 5)

    def empty(self) -> bool:
        return self._queue.empty()


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def runner(fleet: FakeFleet, told: Told) -> AsyncIterator[FleetRunner]:
    runner = FleetRunner(fleet, told, lambda token: f"{token}-again")
    yield runner
    await runner.aclose()
    await runner.aclose()
    assert fleet.closed


def order(job: str, generation: int = 1) -> JobOrder:
    return JobOrder(
        job_id=JobId(job),
        generation=generation,
        cause=PlacementCause.NEW,
        job=b"",
        url="ws://x",
        token="t",
        accept=AcceptArguments(identity="agent"),
        worker_id="w",
        received_at=0,
        accepted_at=0,
        assigned_at=0,
    )


async def start_host(runner: FleetRunner, told: Told) -> None:
    runner.run(cmd.StartHost(host_id=HOST, program=program()))
    assert await told.next() == inp.HostStarted(host_id=HOST, endpoint=endpoint(HOST))


async def test_a_host_is_started_watched_and_its_death_told(
    runner: FleetRunner, fleet: FakeFleet, told: Told
) -> None:
    await start_host(runner, told)
    beat = HostHeartbeat(host_id=HOST, sequence=1, jobs=0)
    fleet.report(HOST, beat)
    assert await told.next() == inp.HostHeartbeatReceived(heartbeat=beat)
    assert set(runner.hosts) == {HOST}
    fleet.die(HOST)
    lost = await told.next()
    assert isinstance(lost, inp.HostLost)
    assert "broke" in lost.evidence
    assert not runner.hosts


async def test_a_failed_start_is_told_with_its_reason(
    runner: FleetRunner, fleet: FakeFleet, told: Told
) -> None:
    fleet.start_errors = {HOST: "no module named x", REPLICA: "no gpu"}
    runner.run(cmd.StartHost(host_id=HOST, program=program()))
    assert await told.next() == inp.HostFailed(host_id=HOST, reason="no module named x")
    group = ReplicaGroupSettings(name="speech", engines=("silero",))
    runner.run(cmd.StartReplica(replica_id=REPLICA, group=group))
    assert await told.next() == inp.ReplicaFailed(
        replica_id=REPLICA, reason="speech-1 did not start: no gpu"
    )


async def test_a_replica_that_waits_says_what_for_and_is_drained_before_its_end(
    runner: FleetRunner, fleet: FakeFleet, told: Told
) -> None:
    fleet.waits = {REPLICA: ("waits for 1 GPU: 0 of 1 free", "")}
    group = ReplicaGroupSettings(name="speech", engines=("silero",))
    runner.run(cmd.StartReplica(replica_id=REPLICA, group=group))
    for reason in fleet.waits[REPLICA]:
        assert await told.next() == inp.ReplicaWaiting(replica_id=REPLICA, reason=reason)
    assert isinstance(await told.next(), inp.ReplicaStarted)
    runner.run(cmd.DrainReplica(replica_id=REPLICA))
    await fleet.until_calls(1)
    runner.run(cmd.StopReplica(replica_id=REPLICA, force=True))
    assert await told.next() == inp.ReplicaRetired(replica_id=REPLICA)
    assert fleet.calls == [("drain_replica", REPLICA), ("stop_replica", REPLICA, True)]


async def test_a_host_that_we_stop_is_retired_and_not_lost(
    runner: FleetRunner, fleet: FakeFleet, told: Told
) -> None:
    await start_host(runner, told)
    runner.run(cmd.StopHost(host_id=HOST, force=False))
    assert await told.next() == inp.HostRetired(host_id=HOST)
    assert fleet.calls == [("stop_host", HOST, False)]
    await asyncio.sleep(0)
    assert told.empty()


async def test_orders_to_a_host_keep_their_order(
    runner: FleetRunner, fleet: FakeFleet, told: Told
) -> None:
    await start_host(runner, told)
    fleet.gate = asyncio.Event()
    runner.run(cmd.StartJob(host_id=HOST, order=order("j1"), resign_token=False))
    runner.run(cmd.StopJob(host_id=HOST, job_id=JobId("j1"), generation=1, reason="x"))
    runner.run(cmd.StartJob(host_id=HOST, order=order("j1", 2), resign_token=True))
    fleet.answer = RequestAnswer(accept=None)
    runner.run(cmd.RunRequest(host_id=HOST, job_id=JobId("j2"), job=b"", timeout_s=1))
    # A request is not held up by the orders before it.
    assert isinstance(await told.next(), inp.RequestAnswered)
    assert fleet.calls == []
    fleet.gate.set()
    runner.run(cmd.SetReplicas(host_id=HOST, replicas=()))
    await fleet.until_calls(4)
    assert fleet.calls == [
        ("start_job", HOST, "j1", "t"),
        ("stop_job", HOST, "j1", 1),
        ("start_job", HOST, "j1", "t-again"),
        ("set_replicas", HOST, ()),
    ]


async def test_a_refused_job_is_told_and_the_next_order_goes_on(
    runner: FleetRunner, fleet: FakeFleet, told: Told
) -> None:
    await start_host(runner, told)
    fleet.job_errors[JobId("j1")] = ConnectionFailedError("gone")
    runner.run(cmd.StartJob(host_id=HOST, order=order("j1"), resign_token=False))
    failed = await told.next()
    assert failed == inp.JobStartFailed(
        host_id=HOST, job_id=JobId("j1"), generation=1, reason="gone"
    )
    runner.run(cmd.StartJob(host_id=HOST, order=order("j2"), resign_token=False))
    await fleet.until_calls(1)
    assert fleet.calls[0][2] == "j2"


async def test_an_order_to_a_host_that_is_gone_is_refused_at_once(
    runner: FleetRunner, told: Told
) -> None:
    runner.run(cmd.StartJob(host_id=HOST, order=order("j1"), resign_token=False))
    failed = await told.next()
    assert isinstance(failed, inp.JobStartFailed)
    assert "gone" in failed.reason


async def test_a_request_without_an_answer_fails_at_its_deadline(
    runner: FleetRunner, told: Told
) -> None:
    await start_host(runner, told)
    runner.run(cmd.RunRequest(host_id=HOST, job_id=JobId("j1"), job=b"", timeout_s=0.01))
    failed = await told.next()
    assert isinstance(failed, inp.RequestFailed)
    assert "0.01" in failed.reason


async def test_what_an_earlier_dispatcher_left_is_found_before_anything_else(
    runner: FleetRunner, fleet: FakeFleet, told: Told
) -> None:
    fleet.found = Found(hosts={HOST: endpoint(HOST)}, replicas={REPLICA: endpoint(REPLICA)})
    await runner.find()
    assert await told.next() == inp.FleetFound(hosts=(HOST,), replicas=(REPLICA,))
    assert isinstance(await told.next(), inp.HostStarted)
    assert isinstance(await told.next(), inp.ReplicaStarted)
    fleet.die(REPLICA)
    assert isinstance(await told.next(), inp.ReplicaLost)


async def test_an_order_that_can_not_be_signed_again_is_refused(
    fleet: FakeFleet, told: Told
) -> None:
    def refuse(token: str) -> str:
        raise ConnectionFailedError("wrong secret")

    runner = FleetRunner(fleet, told, refuse)
    await start_host(runner, told)
    runner.run(cmd.StartJob(host_id=HOST, order=order("j1", 2), resign_token=True))
    failed = await told.next()
    assert isinstance(failed, inp.JobStartFailed)
    assert failed.reason == "wrong secret"
    await runner.aclose()


async def test_a_fault_in_handling_a_report_is_no_loss_of_its_host(
    fleet: FakeFleet, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[inp.Input] = []
    handled = asyncio.Event()

    def tell(message: inp.Input) -> None:
        told.append(message)
        if isinstance(message, inp.HostHeartbeatReceived):
            handled.set()
            raise InvalidTransitionError("AJ_1", "a state that does not fit")

    runner = FleetRunner(fleet, tell, lambda token: token)
    runner.run(cmd.StartHost(host_id=HOST, program=program()))
    fleet.report(HOST, HostHeartbeat(host_id=HOST, sequence=1, jobs=0))
    await asyncio.wait_for(handled.wait(), 5)
    await runner.aclose()
    assert not any(isinstance(message, inp.HostLost) for message in told)
    assert "task failed" in caplog.text
