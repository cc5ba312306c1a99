"""A whole session host, and a whole replica, each on its own loops in one process."""

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from livekit.protocol import agent, models

from voxray.actors import host_process
from voxray.actors.contracts import (
    AcceptArguments,
    HostHeartbeat,
    HostSnapshot,
    JobChanged,
    JobOrder,
    JobPhase,
    PlacementCause,
    ReplicaHeartbeat,
    Report,
)
from voxray.actors.control import watch
from voxray.actors.host_process import HostConfig, HostProcess
from voxray.actors.inference_host import InferenceHost, ReplicaConfig
from voxray.actors.place import Place
from voxray.base.errors import (
    CapacityError,
    ConnectionFailedError,
    DeadlineError,
    EngineConfigError,
    ProgramError,
)
from voxray.base.ids import HostId, JobId, ReplicaId
from voxray.base.settings import HostSettings, ReplicaGroupSettings, Settings

NO_MODEL = """
from livekit.agents import AgentServer
def setup(proc): raise OSError('no model')
server = AgentServer(setup_fnc=setup)
@server.rtc_session()
async def entrypoint(ctx): ...
"""
PROGRAMS = Path(__file__).parent / "programs"
TOKEN = "secret of the app"
PLACE = Place(address="127.0.0.1", node="node-1")
SETTINGS = Settings(hosts=HostSettings(sessions_per_host=2, heartbeat_s=0.02))


@pytest.fixture(autouse=True)
def _process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a host does to the process that is its own."""
    root = logging.getLogger()
    handlers, level, environment = root.handlers[:], root.level, dict(os.environ)
    for name in ("blocker", "many_rooms"):
        sys.modules.pop(name, None)
    yield
    gc.unfreeze()
    root.handlers[:] = handlers
    root.setLevel(level)
    os.environ.clear()
    os.environ.update(environment)


def config(program: str = "blocker.py", **environment: str) -> HostConfig:
    return HostConfig(
        host_id=HostId("h1"),
        program_path=PROGRAMS / program,
        settings=SETTINGS,
        environment=environment,
        place=PLACE,
        token=TOKEN,
    )


def order(name: str = "1") -> JobOrder:
    job = agent.Job(id=f"AJ_{name}", room=models.Room(name=f"room-{name}"))
    return JobOrder(
        job_id=JobId(job.id),
        generation=1,
        cause=PlacementCause.NEW,
        job=job.SerializeToString(),
        url="ws://127.0.0.1:1",
        token="",
        accept=AcceptArguments(identity="agent"),
        worker_id="W_1",
        received_at=1.0,
        accepted_at=2.0,
        assigned_at=3.0,
    )


def first(address: str, wanted: Callable[[Report], bool], token: str = TOKEN) -> Report:
    """Return the first report that is wanted."""

    async def look() -> Report:
        async with contextlib.aclosing(watch(address, token)) as reports:
            async for report in reports:
                if wanted(report):
                    return report
        raise AssertionError("a watch never ends")

    return asyncio.run(look())


def test_control_answers_while_a_job_blocks_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_process, "_CALL_S", 0.1)
    monkeypatch.setattr(host_process, "_ANSWER_S", 0.1)
    host = HostProcess(config(OF_THE_PROGRAM="yes"))
    try:
        assert os.environ["OF_THE_PROGRAM"] == "yes"
        program = sys.modules["blocker"]
        address = host.endpoint.address
        snapshot = first(address, lambda report: isinstance(report, HostSnapshot))
        assert (snapshot.host_id, snapshot.capacity, snapshot.orders) == ("h1", 2, ())
        assert snapshot.endpoint == host.endpoint
        monkeypatch.setattr(host_process, "_CALL_S", 10)
        host.start_job(order())
        assert program.blocked.wait(10)
        assert program.userdata == {"ready": True}
        late = first(address, lambda report: getattr(report, "loop_lag_s", 0) > 0.2)
        assert isinstance(late, HostHeartbeat)
        assert late.jobs == 1
        assert first(address, lambda _: True).orders == (order(),)
        monkeypatch.setattr(host_process, "_CALL_S", 0.1)
        with pytest.raises(DeadlineError, match="blocked or busy"):
            host.start_job(order("2"))
        (answer,) = host.requests([("ticket-1", agent.Job(id="AJ_3").SerializeToString())])
        assert answer is not None
        assert answer.accept is None
        assert "blocked or busy" in answer.error
        program.released.set()
        ended = first(address, _is_end_of("AJ_1"))
        status = ended.status if isinstance(ended, JobChanged) else ended.statuses[-1]
        assert (status.outcome, status.reason) == ("success", "released")
        # The order that came too late was never begun.
        assert [status.job_id for status in first(address, lambda _: True).statuses] == ["AJ_1"]
    finally:
        sys.modules["blocker"].released.set()
        host.close()
    host.close()


def _is_end_of(job_id: str) -> Callable[[Report], bool]:
    def wanted(report: Report) -> bool:
        statuses = (
            [report.status]
            if isinstance(report, JobChanged)
            else list(getattr(report, "statuses", ()))
        )
        return any(s.job_id == job_id and s.phase is JobPhase.ENDED for s in statuses)

    return wanted


def test_a_host_reports_the_load_of_its_program_and_its_metrics() -> None:
    host = HostProcess(config())
    try:
        loaded = first(host.endpoint.address, lambda report: getattr(report, "load", None) == 0.0)
        assert isinstance(loaded, HostHeartbeat)
        with urllib.request.urlopen(f"http://{host.endpoint.metrics}/metrics") as page:
            assert b"voxray_loop_lag_seconds" in page.read()
        host.set_replicas(())
        host.drain(1.0)
        with pytest.raises(CapacityError):
            host.start_job(order())
        with pytest.raises(ConnectionFailedError, match="UNAUTHENTICATED"):
            first(host.endpoint.address, lambda _: True, token="guess")
    finally:
        host.close()
    with pytest.raises(ConnectionFailedError):
        first(host.endpoint.address, lambda _: True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        (
            NO_MODEL,
            "its setup_fnc raised OSError: no model",
        ),
    ],
)
def test_a_program_that_fails_leaves_nothing(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "bad_program.py").write_text(text)
    sys.modules.pop("bad_program", None)
    with pytest.raises(ProgramError, match=told):
        HostProcess(config(str(tmp_path / "bad_program.py")))


def test_a_killed_host_breaks_its_stream() -> None:
    script = (
        "import sys, threading; sys.path.insert(0, '.')\n"
        "from tests.integration.test_host_process import HostProcess, config\n"
        "host = HostProcess(config())\n"
        "print(host.endpoint.address, flush=True)\n"
        "threading.Event().wait()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()

        async def watch_it_die() -> None:
            async for _ in watch(address, TOKEN):
                child.kill()

        # No keepalive and no lease: the socket itself tells.
        with pytest.raises(ConnectionFailedError, match=r"Socket closed|Connection reset"):
            asyncio.run(watch_it_die())
    finally:
        child.kill()
        child.communicate()


def replica(*engines: str) -> ReplicaConfig:
    return ReplicaConfig(
        replica_id=ReplicaId("speech-1"),
        group=ReplicaGroupSettings(name="speech", engines=engines, max_streams=7),
        settings=SETTINGS,
        place=PLACE,
        device="cpu",
        token=TOKEN,
    )


def test_a_replica_tells_what_it_is_on_the_port_of_its_engines() -> None:
    host = InferenceHost(replica("scripted"))
    try:
        told = first(host.endpoint.address, lambda _: True)
        assert isinstance(told, ReplicaHeartbeat)
        assert (told.replica_id, told.group, told.engines) == ("speech-1", "speech", ("scripted",))
        assert (told.device, told.streams, told.max_streams) == ("cpu", 0, 7)
        assert told.endpoint == host.endpoint
        with urllib.request.urlopen(f"http://{host.endpoint.metrics}/metrics") as page:
            assert b"voxray_inference" in page.read()
    finally:
        host.close()
    host.close()


def test_a_replica_with_an_unknown_engine_does_not_start() -> None:
    with pytest.raises(EngineConfigError, match="no_such_engine"):
        InferenceHost(replica("no_such_engine"))
