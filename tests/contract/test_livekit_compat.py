"""Every private name and behaviour of livekit-agents that `livekit_compat` relies on."""

import asyncio
import inspect
import logging
import math
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents import (
    AgentServer,
    AgentSession,
    JobContext,
    JobExecutorType,
    JobProcess,
    WorkerOptions,
    cli,
    get_job_context,
)
from livekit.agents.cli import cli as cli_module
from livekit.agents.inference_runner import _InferenceRunner
from livekit.agents.ipc.job_proc_lazy_main import _JobProc
from livekit.agents.job import JobAcceptArguments, RunningJobInfo
from livekit.agents.worker import ServerEnvOption, WorkerPermissions
from livekit.protocol import agent, models
from livekit.rtc._ffi_client import FfiClient

from voxray.actors import livekit_compat as compat
from voxray.actors.program import ProgramHooks, prewarm
from voxray.actors.rtc_compat import drop_events
from voxray.base.errors import MissingPartError

READ_OF_SERVER = (
    "_entrypoint_fnc",
    "_request_fnc",
    "_session_end_fnc",
    "_simulation_end_fnc",
    "_session_end_timeout",
    "_http_proxy",
    "_load_threshold",
    "_agent_name",
    "_server_type",
    "_permissions",
    "_drain_timeout",
    "_initialize_process_timeout",
    "_shutdown_process_timeout",
    "_max_retry",
    "_deployment",
    "_id",
    "_log_level",
    "_ws_url",
    "_api_key",
    "_api_secret",
)


async def entrypoint(ctx: JobContext) -> None:
    """Do nothing."""


def running_job(room: str = "lobby") -> RunningJobInfo:
    # A fake job has no real room: livekit-agents' own mock stands in.
    return RunningJobInfo(
        accept_arguments=JobAcceptArguments(name="", identity="a", metadata=""),
        job=agent.Job(id=f"AJ_{room}", room=models.Room(name=room)),
        url="ws://127.0.0.1:1",
        token="",
        worker_id="W_1",
        fake_job=True,
    )


def driver(hooks: ProgramHooks, **changes: object) -> compat.JobDriver:
    arguments = {"entrypoint": hooks.entrypoint, "userdata": {}, "executor": None, **changes}
    return compat.JobDriver(hooks, running_job(), **arguments)


def test_the_versions_are_the_tested_ones() -> None:
    assert {name: version(name) for name in compat.TESTED_VERSIONS} == compat.TESTED_VERSIONS


@pytest.mark.parametrize("name", READ_OF_SERVER)
def test_the_server_has_the_attribute(name: str) -> None:
    assert hasattr(AgentServer(), name)


def test_a_missing_attribute_is_one_clear_error() -> None:
    server = AgentServer()
    del server._agent_name
    with pytest.raises(
        MissingPartError, match=r"no AgentServer\._agent_name.*install livekit-agen"
    ):
        compat.read_info(server, "agent.py")


def test_a_plain_server_has_only_defaults() -> None:
    server = AgentServer()
    assert compat.read_hooks(server) is None
    server.rtc_session(entrypoint)
    hooks = compat.read_hooks(server)
    assert hooks is not None
    assert hooks.entrypoint is entrypoint
    assert (hooks.request_fnc, hooks.setup_fnc, hooks.load_fnc) == (None, None, None)
    info = compat.read_info(server, "agent.py")
    assert (info.agent_name, info.worker_type) == ("", agent.JobType.JT_ROOM)
    assert not info.has_request_fnc
    assert not info.has_load_fnc
    assert info.load_threshold is None
    assert (info.drain_timeout_s, info.max_retry) == (3600.0, 16)
    assert (info.initialize_timeout_s, info.shutdown_timeout_s) == (10.0, 10.0)
    assert info.session_end_timeout_s == 300.0
    permissions = models.ParticipantPermission.FromString(info.permissions)
    assert permissions.agent
    assert permissions.can_publish
    assert not permissions.hidden


def test_worker_options_keep_their_defaults_and_values() -> None:
    async def on_request(request: object) -> None: ...

    plain = AgentServer.from_server_options(WorkerOptions(entrypoint_fnc=entrypoint))
    hooks = compat.read_hooks(plain)
    assert hooks is not None
    assert (hooks.request_fnc, hooks.setup_fnc, hooks.load_fnc) == (None, None, None)
    full = AgentServer.from_server_options(
        WorkerOptions(
            entrypoint_fnc=entrypoint,
            request_fnc=on_request,
            prewarm_fnc=lambda proc: proc.userdata.update(ready=True),
            load_fnc=lambda: 0.25,
            load_threshold=0.5,
            agent_name="clerk",
            permissions=WorkerPermissions(hidden=True),
            drain_timeout=7,
        )
    )
    hooks = compat.read_hooks(full)
    assert hooks is not None
    assert hooks.request_fnc is on_request
    assert prewarm(hooks) == {"ready": True}
    assert hooks.load_fnc is not None
    assert hooks.load_fnc() == 0.25
    info = compat.read_info(full, "agent.py")
    assert (info.agent_name, info.drain_timeout_s, info.load_threshold) == ("clerk", 7.0, 0.5)
    assert models.ParticipantPermission.FromString(info.permissions).hidden


class Pool:
    """What a host shows of its jobs, without a host."""

    def __init__(self, jobs: list[RunningJobInfo]) -> None:
        self.jobs = jobs

    @property
    def processes(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(running_job=job) for job in self.jobs]


def test_a_load_fnc_gets_its_server_and_the_active_jobs() -> None:
    server = AgentServer(load_fnc=lambda server: len(server.active_jobs) / 10, load_threshold=2.0)
    server.rtc_session(entrypoint)
    jobs = [running_job("a"), running_job("b")]
    compat.run_on_host(server, Pool(jobs))
    hooks = compat.read_hooks(server)
    assert hooks is not None
    assert hooks.load_fnc is not None
    assert hooks.load_fnc() == 0.2
    assert server.active_jobs == jobs
    assert compat.read_info(server, "agent.py").load_threshold == 2.0


def test_options_have_their_development_values(monkeypatch: pytest.MonkeyPatch) -> None:
    server = AgentServer(
        load_fnc=lambda: 0.1,
        load_threshold=ServerEnvOption(dev_default=0.9, prod_default=0.5),
        log_level=ServerEnvOption(dev_default="trace", prod_default="warn"),
    )
    server.rtc_session(entrypoint)
    monkeypatch.delenv("LIVEKIT_DEV_MODE", raising=False)
    info = compat.read_info(server, "agent.py")
    assert (info.load_threshold, info.log_level) == (0.5, "WARN")
    monkeypatch.setenv("LIVEKIT_DEV_MODE", "1")
    info = compat.read_info(server, "agent.py")
    assert (info.load_threshold, info.log_level) == (0.9, "TRACE")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "own"),
        ({"LIVEKIT_AGENT_NAME": "by-default"}, "own"),
        ({"LIVEKIT_AGENT_NAME_OVERRIDE": "forced"}, "forced"),
    ],
)
def test_the_agent_s_name_is_the_one_that_stock_takes(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str
) -> None:
    for variable in ("LIVEKIT_AGENT_NAME", "LIVEKIT_AGENT_NAME_OVERRIDE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    server = AgentServer()
    server.rtc_session(entrypoint, agent_name="own")
    assert compat.read_info(server, "agent.py").agent_name == name
    unnamed = AgentServer()
    unnamed.rtc_session(entrypoint)
    expected = environment.get("LIVEKIT_AGENT_NAME") or (name if name == "forced" else "")
    assert compat.read_info(unnamed, "agent.py").agent_name == expected


def test_a_proxy_and_a_deployment_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://of-the-environment:1")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.setenv("LIVEKIT_AGENT_DEPLOYMENT", "blue")
    servers = (
        AgentServer(),
        AgentServer(http_proxy="http://its-own:2"),
        AgentServer(http_proxy=None),
    )
    for server in servers:
        server.rtc_session(entrypoint)
    infos = [compat.read_info(server, "agent.py") for server in servers]
    assert [info.http_proxy for info in infos] == [
        "http://of-the-environment:1",
        "http://its-own:2",
        "",
    ]
    assert {info.deployment for info in infos} == {"blue"}
    assert "its-own" not in repr(infos[1])


def test_a_worker_s_id_is_shown_once() -> None:
    server = AgentServer()
    heard: list[tuple[str, models.ServerInfo]] = []
    server.on("worker_registered", lambda *args: heard.append(args))
    for worker_id in ("", "AW_1", "AW_1", "AW_2"):
        compat.show_registration(server, worker_id)
    assert server.id == "AW_2"
    assert heard == [("AW_1", models.ServerInfo()), ("AW_2", models.ServerInfo())]


def test_an_infinite_threshold_is_none() -> None:
    server = AgentServer(load_fnc=lambda: 0.1, load_threshold=math.inf)
    server.rtc_session(entrypoint)
    assert compat.read_info(server, "agent.py").load_threshold is None
    assert ServerEnvOption.getvalue(ServerEnvOption(1.0, 2.0), False) == 2.0


def test_run_app_is_captured_wherever_it_is_called() -> None:
    server, found = AgentServer(), []
    with compat.capture_run_app(found):
        cli.run_app(server)
        cli_module.run_app(server)
        cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, agent_name="clerk"))
    assert found[:2] == [server, server]
    assert compat.read_info(found[2], "agent.py").agent_name == "clerk"
    assert cli.run_app is cli_module.run_app


def test_the_job_process_takes_what_it_is_given() -> None:
    parameters = inspect.signature(_JobProc).parameters
    assert {"session_end_timeout", "executor_type", "simulation_end_fnc"} <= parameters.keys()
    process = JobProcess(executor_type=JobExecutorType.THREAD, user_arguments=None, http_proxy=None)
    assert process.userdata == {}


async def test_a_job_runs_its_whole_life(caplog: pytest.LogCaptureFixture) -> None:
    told: list[object] = []

    async def job(ctx: JobContext) -> None:
        told.append(ctx.proc.userdata)
        told.append(get_job_context() is ctx)
        ctx.log_context_fields = {"caller": "test"}
        logging.getLogger("program").warning("inside")

        async def bye(reason: str) -> None:
            told.append(reason)

        ctx.add_shutdown_callback(bye)
        ctx.shutdown("said all")

    async def session_end(ctx: JobContext) -> None:
        told.append("session end")

    given = {"model": 1}
    hooks = ProgramHooks(entrypoint=job, session_end_fnc=session_end)
    end = await driver(hooks, userdata=given).run()
    assert end == compat.JobEnd(reason="said all", crashed=False)
    assert told == [{"model": 1}, True, "session end", "said all"]
    assert told[0] is not given
    assert get_job_context(required=False) is None
    logging.getLogger("program").warning("outside")
    fields = {r.message: getattr(r, "caller", None) for r in caplog.records if r.name == "program"}
    assert fields == {"inside": "test", "outside": None}


async def test_a_shutdown_from_outside_gives_its_reason() -> None:
    started = asyncio.Event()

    async def job(ctx: JobContext) -> None:
        started.set()

    runner = driver(ProgramHooks(entrypoint=job))
    task = asyncio.create_task(runner.run())
    await started.wait()
    runner.shutdown("drained")
    runner.shutdown("once more")
    assert await task == compat.JobEnd(reason="drained", crashed=False)
    await runner.wait_callbacks()


async def test_a_shutdown_before_the_start_ends_the_job_all_the_same() -> None:
    runner = driver(ProgramHooks(entrypoint=entrypoint))
    runner.shutdown("too early")
    assert await runner.run() == compat.JobEnd(reason="too early", crashed=False)


async def test_a_raising_entrypoint_is_a_crash_that_runs_its_callbacks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reasons: list[str] = []

    async def job(ctx: JobContext) -> None:
        async def bye(reason: str) -> None:
            reasons.append(reason)

        ctx.add_shutdown_callback(bye)
        raise ValueError("bad")

    end = await driver(ProgramHooks(entrypoint=job)).run()
    assert end.crashed
    assert reasons == [end.reason]


async def test_inference_requests_reach_the_executor() -> None:
    class Executor:
        async def do_inference(self, method: str, data: bytes) -> bytes | None:
            if method == "bad":
                raise LookupError("no such runner")
            return method.encode() + data

    answers: list[object] = []

    async def job(ctx: JobContext) -> None:
        answers.append(await ctx.inference_executor.do_inference("eou", b"!"))
        with pytest.raises(RuntimeError, match="no such runner"):
            await ctx.inference_executor.do_inference("bad", b"")
        ctx.shutdown()

    await driver(ProgramHooks(entrypoint=job), executor=Executor()).run()
    assert answers == [b"eou!"]


async def test_without_an_executor_an_inference_request_fails_at_once() -> None:
    async def job(ctx: JobContext) -> None:
        with pytest.raises(RuntimeError, match="no inference runner"):
            await ctx.inference_executor.do_inference("eou", b"")
        ctx.shutdown("done")

    assert (await driver(ProgramHooks(entrypoint=job)).run()).reason == "done"


async def test_a_cancelled_job_leaves_nothing_of_its_own() -> None:
    started = asyncio.Event()

    async def job(ctx: JobContext) -> None:
        started.set()

    filters = {handler: list(handler.filters) for handler in logging.getLogger().handlers}
    task = asyncio.create_task(driver(ProgramHooks(entrypoint=job)).run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {handler: list(handler.filters) for handler in filters} == filters


def test_runners_are_registered_where_we_look(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runner(_InferenceRunner):
        INFERENCE_METHOD = "test_method"

        def initialize(self) -> None: ...

        def run(self, data: bytes) -> bytes | None:
            return data

    monkeypatch.setattr(_InferenceRunner, "registered_runners", {})
    _InferenceRunner.register_runner(Runner)
    assert dict(compat.registered_runners()) == {"test_method": Runner}


def test_the_events_that_jobs_are_watched_by_exist() -> None:
    assert {"connection_state_changed", "local_track_published"} <= set(
        rtc.room.EventTypes.__args__
    )
    assert inspect.iscoroutinefunction(AgentSession.start)


def test_preparing_a_process_imports_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
    compat.prepare_process()


async def test_a_job_that_was_cut_short_leaves_no_filter_and_no_queue() -> None:
    room = rtc.Room()
    queue = FfiClient.instance.queue
    room._ffi_queue = queue.subscribe()
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    job = JobContext(
        proc=JobProcess(executor_type=JobExecutorType.THREAD, user_arguments=None, http_proxy=None),
        info=running_job(),
        room=room,
        on_connect=lambda: None,
        on_shutdown=lambda _: None,
        inference_executor=None,
    )
    try:
        job._on_setup()
        assert handler.filters
        assert any(each is room._ffi_queue for each, *_ in queue._subscribers)
        for _ in range(2):
            compat.let_go(job)
            drop_events(room)
        assert not handler.filters
        assert not any(each is room._ffi_queue for each, *_ in queue._subscribers)
    finally:
        logging.getLogger().removeHandler(handler)
        job._tempdir.cleanup()
