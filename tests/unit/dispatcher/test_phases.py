"""An app runs once LiveKit, a host and every replica group are there; and fails with its reason."""

import asyncio

from voxray.base.errors import ActorStartError, CredentialsError
from voxray.base.ids import HostId, ReplicaId
from voxray.base.settings import InferenceSettings
from voxray.dispatcher.phases import Phase, PhaseBoard
from voxray.observability import events as ev

HOST = HostId("aa")
REGISTERED = ev.WorkerRegistered(worker_id="AW_1", reconnect=False)
HOST_READY = ev.HostReady(host_id=HOST, seconds=1)
REPLICA_READY = ev.ReplicaReady(replica_id=ReplicaId("speech-1"), group="speech", device="cpu")


def board() -> PhaseBoard:
    return PhaseBoard(InferenceSettings())


async def test_runs_when_everything_is_there_and_says_what_it_waits_for() -> None:
    phases = board()
    assert (await phases.wait(0, 0))["waiting_for"] == (
        "LiveKit and a session host and inference (speech)"
    )
    phases.emit(REPLICA_READY)
    phases.emit(HOST_READY)
    assert (await phases.wait(0, 0))["waiting_for"] == "LiveKit"
    assert phases.phase is Phase.STARTING
    phases.emit(REGISTERED)
    assert phases.phase is Phase.RUNNING


async def test_a_waiter_is_woken_by_the_change_and_not_before() -> None:
    phases = board()
    version = (await phases.wait(0, 0))["version"]
    assert isinstance(version, int)
    waiter = asyncio.create_task(phases.wait(version, 30))
    await asyncio.sleep(0)
    assert not waiter.done()
    phases.listening("http://127.0.0.1:1")
    assert (await waiter)["api_url"] == "http://127.0.0.1:1"
    assert (await phases.wait(0, 30))["api_url"]


async def test_a_host_that_does_not_start_fails_a_starting_app_only() -> None:
    phases = board()
    phases.emit(
        ev.HostStartFailed(
            host_id=HOST, reason="no module named x", details=("agent.py:1 in <module>: import x",)
        )
    )
    state = await phases.wait(0, 0)
    assert (state["phase"], state["error_type"]) == ("failed", "ActorStartError")
    assert state["error"] == "no session host could start: no module named x"
    assert state["error_details"] == ["agent.py:1 in <module>: import x"]

    phases = board()
    for event in (REGISTERED, HOST_READY, REPLICA_READY):
        phases.emit(event)
    phases.emit(ev.HostStartFailed(host_id=HOST, reason="later"))
    phases.emit(ev.ReplicaLost(replica_id=ReplicaId("speech-1"), group="speech", reason="died"))
    assert phases.phase is Phase.RUNNING


async def test_a_replica_that_does_not_start_fails_a_starting_app() -> None:
    phases = board()
    phases.emit(
        ev.ReplicaLost(
            replica_id=ReplicaId("speech-1"), group="speech", reason="no gpu", was_ready=False
        )
    )
    assert isinstance(phases.error, ActorStartError)


async def test_the_first_failure_stays() -> None:
    phases = board()
    phases.failed(CredentialsError("refused"))
    phases.failed(ActorStartError("later"))
    phases.draining()
    phases.drained()
    assert (await phases.wait(0, 0))["error"] == "refused"
    assert phases.phase is Phase.FAILED


async def test_drain() -> None:
    phases = board()
    phases.draining()
    phases.emit(REGISTERED)
    assert phases.phase is Phase.DRAINING
    phases.drained()
    assert phases.phase is Phase.DRAINED
