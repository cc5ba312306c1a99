"""A session host behind livekit-agents' own `JobExecutor`, and what `AgentServer` asks of it."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from livekit.agents import AgentServer, JobContext, JobExecutorType, JobProcess
from livekit.agents.ipc import job_thread_executor
from livekit.agents.ipc.job_executor import JobExecutor, JobStatus
from livekit.agents.ipc.proc_pool import ProcPool
from livekit.agents.job import JobAcceptArguments, RunningJobInfo
from livekit.protocol import agent, models

from voxray.actors import livekit_compat as compat
from voxray.actors.contracts import Endpoint, JobOrder, Report
from voxray.actors.job_executor import HostedJobExecutor, info_of, order_of
from voxray.actors.job_task import HostResources
from voxray.actors.program import LoadedProgram, prewarm
from voxray.actors.session_host import SessionHost
from voxray.base.errors import CapacityError
from voxray.base.ids import HostId

Entrypoint = Callable[[JobContext], Awaitable[None]]


def program_of(
    entrypoint: Entrypoint,
    *,
    setup_fnc: Callable[[JobProcess], object] | None = None,
    prepare: Callable[[AgentServer], object] = lambda _: None,
) -> LoadedProgram:
    server = AgentServer(setup_fnc=setup_fnc, shutdown_process_timeout=5.0)
    server.rtc_session(entrypoint)
    prepare(server)
    hooks = compat.read_hooks(server)
    assert hooks is not None
    return LoadedProgram(
        server=server,
        hooks=hooks,
        info=compat.read_info(server, "agent.py"),
        connection=compat.read_connection(server),
    )


def job_info(room: str = "lobby", *, fake: bool = True) -> RunningJobInfo:
    return RunningJobInfo(
        accept_arguments=JobAcceptArguments(
            name="Ann", identity="ann", metadata="m", attributes={"k": "v"}
        ),
        job=agent.Job(id=f"AJ_{room}", room=models.Room(name=room, sid="RM_1"), agent_name="clerk"),
        url="ws://127.0.0.1:1",
        token="",
        worker_id="AW_1",
        fake_job=fake,
        received_at=1.0,
        accepted_at=2.0,
        assigned_at=3.0,
    )


class Running:
    """A session host on this loop, and what it reported."""

    def __init__(self, program: LoadedProgram) -> None:
        self.program = program
        self.reports: list[Report] = []
        self.host = SessionHost(
            HostId("h1"),
            HostResources(program=program, userdata=prewarm(program.hooks)),
            capacity=1,
            endpoint=Endpoint(address="127.0.0.1:1", metrics="127.0.0.1:2", node="n", pid=1),
            report=self.reports.append,
        )

    def executor(self) -> HostedJobExecutor:
        return HostedJobExecutor(self.host.launch, host_id="h1")


@asynccontextmanager
async def hosting(program: LoadedProgram) -> AsyncIterator[Running]:
    running = Running(program)
    await running.host.start()
    try:
        yield running
    finally:
        await running.host.aclose(5.0)


async def test_a_job_runs_its_whole_life_through_the_protocol() -> None:
    told: list[object] = []

    async def entrypoint(ctx: JobContext) -> None:
        told.append([ctx.proc.userdata, ctx.proc.user_arguments, ctx.is_fake_job()])
        told.append([ctx.job.room.name, ctx.worker_id, ctx._info.accept_arguments.identity])

        async def bye(reason: str) -> None:
            told.append(reason)

        ctx.add_shutdown_callback(bye)
        ctx.shutdown("said all")

    def setup(proc: JobProcess) -> None:
        proc.userdata["model"] = "loaded"

    async with hosting(program_of(entrypoint, setup_fnc=setup)) as running:
        executor: JobExecutor = running.executor()
        assert not executor.started
        assert executor.running_job is None
        with pytest.raises(RuntimeError, match="not available"):
            _ = executor.status
        executor.user_arguments = {"desk": 7}
        await executor.start()
        await executor.initialize()
        assert executor.started
        assert executor.logging_extra() == {"host_id": "h1"}
        info = job_info()
        await executor.launch_job(info)
        assert executor.status is JobStatus.RUNNING
        await executor.join()
        assert executor.status is JobStatus.SUCCESS
        assert executor.running_job is not None
        assert executor.running_job.job.id == info.job.id
        assert executor.logging_extra() == {
            "host_id": "h1",
            "job_id": "AJ_lobby",
            "room": "lobby",
            "room_id": "RM_1",
            "agent_name": "clerk",
        }
        await executor.aclose()
    assert told == [
        [{"model": "loaded"}, {"desk": 7}, True],
        ["lobby", "AW_1", "ann"],
        "said all",
    ]
    # Nobody else has placed it: nobody is told.
    assert running.reports == []


async def test_closing_an_executor_ends_its_job_with_stock_s_words() -> None:
    ready = asyncio.Event()
    reasons: list[str] = []

    async def entrypoint(ctx: JobContext) -> None:
        async def bye(reason: str) -> None:
            reasons.append(reason)

        ctx.add_shutdown_callback(bye)
        ready.set()

    async with hosting(program_of(entrypoint)) as running:
        executor = running.executor()
        await executor.start()
        await executor.initialize()
        await executor.launch_job(job_info())
        await ready.wait()
        await executor.aclose()
        assert executor.status is JobStatus.SUCCESS
        await executor.join()
    assert reasons == [compat.STOPPED]


async def test_a_raising_entrypoint_is_a_failed_job() -> None:
    async def entrypoint(ctx: JobContext) -> None:
        raise ValueError("bad day")

    async with hosting(program_of(entrypoint)) as running:
        executor = running.executor()
        await executor.start()
        await executor.initialize()
        await executor.launch_job(job_info())
        await executor.join()
        assert executor.status is JobStatus.FAILED


async def test_the_steps_have_their_order() -> None:
    async def entrypoint(ctx: JobContext) -> None:
        ctx.shutdown()

    async with hosting(program_of(entrypoint)) as running:
        executor = running.executor()
        for early in (executor.join(), executor.initialize()):
            with pytest.raises(RuntimeError, match="not started"):
                await early
        with pytest.raises(RuntimeError, match="not initialized"):
            await executor.launch_job(job_info())
        await executor.start()
        with pytest.raises(RuntimeError, match="already started"):
            await executor.start()
        await executor.initialize()
        await executor.launch_job(job_info())
        with pytest.raises(RuntimeError, match="already has a running job"):
            await executor.launch_job(job_info("other"))
        await executor.join()
        unused = running.executor()
        await unused.start()
        await unused.aclose()
        await unused.join()
        closed = running.executor()
        await closed.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await closed.start()


async def test_a_host_that_drains_launches_nothing() -> None:
    async def entrypoint(ctx: JobContext) -> None:
        ctx.shutdown()

    async with hosting(program_of(entrypoint)) as running:
        await running.host.drain(1.0)
        executor = running.executor()
        await executor.start()
        await executor.initialize()
        with pytest.raises(CapacityError, match="AJ_lobby"):
            await executor.launch_job(job_info())
        assert executor.status is JobStatus.FAILED
        await executor.join()


async def test_livekit_agents_own_pool_drives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[str] = []

    async def entrypoint(ctx: JobContext) -> None:
        rooms.append(ctx.job.room.name)
        ctx.shutdown("done")

    async with hosting(program_of(entrypoint)) as running:
        monkeypatch.setattr(
            job_thread_executor, "ThreadJobExecutor", lambda **_: running.executor()
        )
        pool = ProcPool(
            initialize_process_fnc=lambda _: None,
            job_entrypoint_fnc=entrypoint,
            session_end_fnc=None,
            simulation_end_fnc=None,
            num_idle_processes=1,
            initialize_timeout=10.0,
            close_timeout=10.0,
            session_end_timeout=10.0,
            inference_executor=None,
            job_executor_type=JobExecutorType.THREAD,
            mp_ctx=multiprocessing.get_context("spawn"),
            memory_warn_mb=0,
            memory_limit_mb=0,
            http_proxy=None,
            loop=asyncio.get_running_loop(),
        )
        ended: asyncio.Queue[JobExecutor] = asyncio.Queue()
        pool.on("process_closed", ended.put_nowait)
        await pool.start()
        for room in ("first", "second"):
            await pool.launch_job(job_info(room))
            executor = await ended.get()
            assert executor.status is JobStatus.SUCCESS
            assert executor.running_job is not None
            assert executor.running_job.job.room.name == room
            assert executor.running_job.launched_at > 0
        await pool.aclose()
    assert rooms == ["first", "second"]


async def test_a_program_simulates_a_job_on_its_host() -> None:
    ended = asyncio.Event()
    seen: list[object] = []

    async def entrypoint(ctx: JobContext) -> None:
        seen.append([ctx.is_fake_job(), ctx.job.room.name, len(server.active_jobs)])
        if ctx.job.room.name == "outer":
            # Out of a job's own task: what it starts must not end with it.
            await server.simulate_job("inner", fake_job=True)
            ctx.shutdown("outer is over")
        else:
            ctx.add_shutdown_callback(over)
            ctx.shutdown("inner is over")

    async def over(reason: str) -> None:
        seen.append(reason)
        ended.set()

    program = program_of(entrypoint)
    server = program.server
    async with hosting(program) as running:
        assert server.active_jobs == []
        await server.simulate_job("outer", fake_job=True)
        await ended.wait()
        # They take no slot of the dispatcher's and are in no report.
        assert running.host.snapshot().orders == ()
        assert running.host.heartbeat(1).jobs == 0
    assert seen == [[True, "outer", 1], [True, "inner", 2], "inner is over"]
    assert running.reports == []
    assert server.active_jobs == []


async def test_a_server_hears_that_it_runs_and_who_it_is() -> None:
    heard: list[object] = []
    ended = asyncio.Event()

    def prepare(server: AgentServer) -> None:
        server.on("worker_started", lambda: heard.append("started"))
        server.on("worker_registered", lambda *args: heard.append(args))

    async def entrypoint(ctx: JobContext) -> None:
        heard.append(server.id)
        ctx.add_shutdown_callback(over)
        ctx.shutdown()

    async def over() -> None:
        ended.set()

    program = program_of(entrypoint, prepare=prepare)
    server = program.server
    async with hosting(program) as running:
        assert heard == ["started"]
        for room in ("first", "second"):
            ended.clear()
            await running.host.start_job(order_of(job_info(room)))
            await ended.wait()
            await running.host.drain(5.0)
            running.host._draining = False
    assert heard == ["started", ("AW_1", models.ServerInfo()), "AW_1", "AW_1"]
    assert len({report.status.job_id for report in running.reports}) == 2


def test_an_order_holds_all_of_a_job() -> None:
    given = job_info()
    order = order_of(given)
    assert isinstance(order, JobOrder)
    assert JobOrder.model_validate_json(order.model_dump_json()) == order
    made = info_of(order, launched_at=4.0)
    given.launched_at = 4.0
    assert made == given
