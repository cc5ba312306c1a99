"""Many jobs of one program in one process, in real rooms."""

import asyncio
import contextvars
import gc
import logging
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from livekit import api, rtc
from livekit.agents import JobContext
from livekit.protocol import agent, models

from voxray.actors.contracts import (
    AcceptArguments,
    Endpoint,
    JobChanged,
    JobOrder,
    JobPhase,
    JobStatus,
    PlacementCause,
    Report,
    TurnReport,
)
from voxray.actors.job_task import HostResources
from voxray.actors.livekit_compat import STOPPED
from voxray.actors.program import LoadedProgram, prewarm
from voxray.actors.room_joining import let_go_of_events, see_joins_through
from voxray.actors.rtc_leftovers import follow_rtc, leave_rooms, rooms_of
from voxray.actors.session_host import SessionHost
from voxray.actors.task_scope import TaskScope
from voxray.app import load_program
from voxray.base.errors import CapacityError
from voxray.base.ids import HostId, JobId
from voxray.loadtest.livekit_server import LiveKitServer

PROGRAM = Path(__file__).parent / "programs" / "many_rooms.py"
ENDPOINT = Endpoint(address="127.0.0.1:1", metrics="127.0.0.1:2", node="n", pid=1)


class Running:
    """A session host under test, with what it reported."""

    def __init__(self, server: LiveKitServer, program: LoadedProgram, capacity: int) -> None:
        self.server = server
        self.module = sys.modules["many_rooms"]
        self.reports: list[Report] = []
        self._news = asyncio.Event()
        shared = HostResources(program=program, userdata=prewarm(program.hooks))
        self.host = SessionHost(
            HostId("h1"), shared, capacity=capacity, endpoint=ENDPOINT, report=self._take
        )

    def order(self, room: str, what: str = "", *, generation: int = 1) -> JobOrder:
        token = (
            api.AccessToken(self.server.api_key, self.server.api_secret)
            .with_identity(f"agent-{room}")
            .with_kind("agent")
            .with_grants(api.VideoGrants(room_join=True, room=room, agent=True))
            .to_jwt()
        )
        job = agent.Job(id=f"AJ_{room}", room=models.Room(name=room), metadata=what)
        return JobOrder(
            job_id=JobId(job.id),
            generation=generation,
            cause=PlacementCause.NEW,
            job=job.SerializeToString(),
            url=self.server.url,
            token=token,
            accept=AcceptArguments(identity=f"agent-{room}"),
            worker_id="W_1",
            received_at=1.0,
            accepted_at=2.0,
            assigned_at=3.0,
        )

    async def start(self, *orders: JobOrder) -> None:
        for order in orders:
            await self.host.start_job(order)

    def phases(self, room: str, generation: int = 1) -> list[JobPhase]:
        return [status.phase for status in self.statuses(room, generation)]

    def statuses(self, room: str, generation: int = 1) -> list[JobStatus]:
        return [
            report.status
            for report in self.reports
            if isinstance(report, JobChanged)
            and (report.status.job_id, report.status.generation) == (f"AJ_{room}", generation)
        ]

    async def reached(self, phase: JobPhase, *rooms: str, generation: int = 1) -> list[JobStatus]:
        await self.until(lambda: all(phase in self.phases(room, generation) for room in rooms))
        return [self.statuses(room, generation)[-1] for room in rooms]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    def _take(self, report: Report) -> None:
        self.reports.append(report)
        self._news.set()


@pytest.fixture
def program() -> LoadedProgram:
    sys.modules.pop("many_rooms", None)
    return load_program(PROGRAM)


@pytest.fixture
async def running(livekit_server: LiveKitServer, program: LoadedProgram) -> AsyncIterator[Running]:
    running = Running(livekit_server, program, capacity=6)
    await running.host.start()
    try:
        yield running
    finally:
        await running.host.aclose(10.0)


async def test_jobs_on_one_loop_stay_apart(
    running: Running, room_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = [f"{room_name}-{number}" for number in range(5)]
    with caplog.at_level(logging.INFO):
        await running.start(*(running.order(room) for room in rooms))
        await running.reached(JobPhase.RUNNING, *rooms)
        for room in rooms:
            await running.host.stop_job(JobId(f"AJ_{room}"), 1, "enough")
        await running.reached(JobPhase.ENDED, *rooms)
    # Each saw what the module had set and then only what it set itself.
    assert running.module.seen == {room: [f"set by the module|{room}"] * 5 for room in rooms}
    lines = [record for record in caplog.records if record.name == "many_rooms"]
    assert len(lines) == 25
    assert all(record.getMessage() == f"in room {record.of_room}" for record in lines)
    phases = [JobPhase.CONNECTED, JobPhase.RUNNING, JobPhase.ENDED]
    assert [running.phases(room) for room in rooms] == [phases] * 5
    # Prewarmed once, on the main thread; each job has a dict of its own with the same model.
    assert running.module.setups == [True]
    assert len({id(warm) for warm in running.module.warm_dicts}) == 5
    assert len({id(warm["model"]) for warm in running.module.warm_dicts}) == 1


async def test_an_exception_ends_its_job_alone(running: Running, room_name: str) -> None:
    good, bad = f"{room_name}-good", f"{room_name}-bad"
    await running.start(running.order(good), running.order(bad, "crash"))
    [ended] = await running.reached(JobPhase.ENDED, bad)
    assert (ended.outcome, ended.reason) == ("failed", f"ValueError: bad room {bad}")
    await running.reached(JobPhase.RUNNING, good)
    assert running.module.shutdowns == [(bad, "job crashed")]
    await running.host.stop_job(JobId(f"AJ_{good}"), 1, "enough")
    [stopped] = await running.reached(JobPhase.ENDED, good)
    assert (stopped.outcome, stopped.reason) == ("success", "enough")
    assert running.module.shutdowns[1:] == [(good, STOPPED)]


async def test_the_end_of_a_room_ends_its_job(running: Running, room_name: str) -> None:
    await running.start(running.order(room_name))
    await running.reached(JobPhase.RUNNING, room_name)
    server = running.server
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room_name))
    [ended] = await running.reached(JobPhase.ENDED, room_name)
    assert (ended.outcome, ended.reason) == ("success", "room disconnected")
    assert running.module.shutdowns == [(room_name, "room disconnected")]


async def test_a_session_tells_its_turns_and_ends_by_shutdown(
    running: Running, room_name: str
) -> None:
    await running.start(running.order(room_name, "session"))
    [ended] = await running.reached(JobPhase.ENDED, room_name)
    assert (ended.outcome, ended.reason) == ("success", "said enough")
    turns = [report for report in running.reports if isinstance(report, TurnReport)]
    # The welcome is no turn.
    assert [(turn.number, turn.room) for turn in turns] == [(1, room_name)]
    assert turns[0].stages.keys() >= {"llm_ttft"}


async def test_an_agent_without_audio_runs_when_its_entrypoint_returned(
    running: Running, room_name: str
) -> None:
    await running.start(running.order(room_name, "listen"))
    await running.reached(JobPhase.RUNNING, room_name)
    assert running.phases(room_name) == [JobPhase.CONNECTED, JobPhase.RUNNING]


async def test_nothing_of_a_job_is_left(
    running: Running, room_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # pytest keeps records, and they keep their tracebacks. An earlier test in this process may
    # have given the loggers levels of their own.
    for name in ("", "livekit", "livekit.agents"):
        caplog.set_level(logging.CRITICAL, logger=name)
    contexts: list[weakref.ref[JobContext]] = []
    entrypoint = running.host._shared.program.hooks.entrypoint

    async def remembered(job: JobContext) -> None:
        contexts.append(weakref.ref(job))
        await entrypoint(job)

    object.__setattr__(running.host._shared.program.hooks, "entrypoint", remembered)
    before = asyncio.all_tasks()
    rooms = {"leak": f"{room_name}-1", "session": f"{room_name}-2", "crash": f"{room_name}-3"}
    await running.start(*(running.order(room, what) for what, room in rooms.items()))
    await running.reached(JobPhase.RUNNING, rooms["leak"])
    assert any(task.get_name() == f"leak-{rooms['leak']}" for task in asyncio.all_tasks())
    await running.host.stop_job(JobId(f"AJ_{rooms['leak']}"), 1, "enough")
    await running.reached(JobPhase.ENDED, *rooms.values())
    assert await running.host.drain(5.0)
    assert {task.get_name() for task in asyncio.all_tasks() - before} == set()
    running.module.warm_dicts.clear()
    gc.collect()
    assert [reference() for reference in contexts] == [None, None, None]


async def test_a_job_that_does_not_shut_down_is_cut_short(running: Running, room_name: str) -> None:
    await running.start(running.order(room_name, "stuck"))
    await running.reached(JobPhase.RUNNING, room_name)
    await running.host.stop_job(JobId(f"AJ_{room_name}"), 1, "enough")
    [ended] = await running.reached(JobPhase.ENDED, room_name)
    assert (ended.outcome, ended.reason) == (
        "failed",
        "it did not shut down in time and was cancelled",
    )


async def test_a_newer_generation_replaces_the_older_one_silently(
    running: Running, room_name: str
) -> None:
    await running.start(running.order(room_name))
    await running.reached(JobPhase.RUNNING, room_name)
    await running.start(running.order(room_name, generation=2), running.order(room_name))
    await running.reached(JobPhase.RUNNING, room_name, generation=2)
    assert running.phases(room_name, 1) == [JobPhase.CONNECTED, JobPhase.RUNNING]
    assert running.module.shutdowns == []
    assert [order.generation for order in running.host.snapshot().orders] == [2]


async def test_closing_ends_jobs_with_their_callbacks(running: Running, room_name: str) -> None:
    await running.start(running.order(room_name))
    await running.reached(JobPhase.RUNNING, room_name)
    await running.host.aclose(10.0, "host is closing")
    assert running.module.shutdowns == [(room_name, STOPPED)]
    assert running.statuses(room_name)[-1].outcome == "success"
    assert running.host.snapshot().orders == ()


async def test_full_and_draining_hosts_refuse(running: Running, room_name: str) -> None:
    rooms = [f"{room_name}-{number}" for number in range(6)]
    await running.start(*(running.order(room, "listen") for room in rooms))
    assert running.host.heartbeat(1).jobs == 6
    with pytest.raises(CapacityError, match="full"):
        await running.start(running.order(f"{room_name}-7"))
    assert not await running.host.drain(0.0)
    for room in rooms:
        await running.host.stop_job(JobId(f"AJ_{room}"), 1, "enough")
    await running.reached(JobPhase.ENDED, *rooms)
    with pytest.raises(CapacityError, match="takes no more"):
        await running.start(running.order(f"{room_name}-8"))
    ended = {status.job_id: status.phase for status in running.host.snapshot().statuses}
    assert ended == {f"AJ_{room}": JobPhase.ENDED for room in rooms}


@pytest.mark.parametrize(
    ("metadata", "identity", "error"),
    [
        ("", "agent-of-lobby", ""),
        ("reject", None, ""),
        ("raise", None, "LookupError: no such tenant"),
        ("silent", None, "request_fnc gave no answer"),
        ("slow", None, "request_fnc gave no answer within 2.0 s"),
    ],
)
async def test_the_program_answers_offers(
    running: Running, metadata: str, identity: str | None, error: str
) -> None:
    job = agent.Job(id="AJ_1", room=models.Room(name="lobby"), metadata=metadata)
    answer = await running.host.request(job.SerializeToString())
    assert (answer.accept and answer.accept.identity) == identity
    assert answer.error == error
    assert not answer.terminate


async def test_a_slow_answer_holds_up_only_itself(running: Running) -> None:
    asked = [
        (metadata, agent.Job(id=f"AJ_{metadata}", metadata=metadata).SerializeToString())
        for metadata in ("slow", "reject", "raise")
    ]
    slow, rejected, raised = await running.host.requests(asked)
    assert slow is None
    assert rejected is not None
    assert (rejected.accept, rejected.error) == (None, "")
    assert raised is not None
    assert "LookupError" in raised.error
    late = await running.host.late_request("slow")
    assert late.error == "request_fnc gave no answer within 2.0 s"
    assert "nothing is asked" in (await running.host.late_request("slow")).error


async def test_a_join_that_its_job_does_not_live_to_see_ends_outside_the_room(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    # Otherwise the runtime takes this process for broken, 10 s later, and ends it.
    see_joins_through()
    room = rtc.Room()
    joined = asyncio.Event()
    left = asyncio.Event()
    room.on("connection_state_changed", lambda *_: joined.set())
    room.on("disconnected", lambda *_: left.set())
    token = (
        api.AccessToken(livekit_server.api_key, livekit_server.api_secret)
        .with_identity("late")
        .with_grants(api.VideoGrants(room_join=True, room=room_name))
        .to_jwt()
    )
    connecting = asyncio.create_task(room.connect(livekit_server.url, token))
    # What a host of the tests before put around `connect` takes a few steps; the join takes more.
    for _ in range(5):
        await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    let_go_of_events(room)
    async with asyncio.timeout(30):
        await joined.wait()
        await left.wait()
    assert not room.isconnected()
    async with api.LiveKitAPI(
        livekit_server.url, livekit_server.api_key, livekit_server.api_secret
    ) as livekit:
        there = await livekit.room.list_participants(api.ListParticipantsRequest(room=room_name))
    assert [each.identity for each in there.participants] == []


async def test_every_room_that_a_job_joined_is_left(
    livekit_server: LiveKitServer, room_name: str
) -> None:
    see_joins_through()
    follow_rtc()
    scope, context = TaskScope("job"), contextvars.copy_context()
    scope.enter(context)
    token = (
        api.AccessToken(livekit_server.api_key, livekit_server.api_secret)
        .with_identity("guest")
        .with_grants(api.VideoGrants(room_join=True, room=room_name))
        .to_jwt()
    )
    # Nobody holds the room but its own task, as in a careless program.
    joining = rtc.Room().connect(livekit_server.url, token)
    await asyncio.create_task(joining, context=context)
    (room,) = rooms_of(scope, None)
    assert room.isconnected()
    assert await leave_rooms([room], deadline_s=10) == []
    assert not room.isconnected()
