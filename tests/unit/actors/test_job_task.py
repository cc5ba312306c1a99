"""Jobs that never reach a room: contexts, traces, and how they end."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable

import pytest
from livekit.agents import AgentServer, JobContext
from livekit.agents.telemetry import tracer
from livekit.protocol import agent, models
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from voxray.actors import livekit_compat as compat
from voxray.actors.contracts import AcceptArguments, JobOrder, JobPhase, PlacementCause
from voxray.actors.job_task import HostResources, JobTask
from voxray.actors.program import LoadedProgram
from voxray.actors.task_scope import install_task_factory
from voxray.base.ids import JobId
from voxray.observability.events import TurnDone

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[JobPhase] = []

    def job_changed(self, job: JobTask) -> None:
        self.phases.append(job.status.phase)

    def turn_done(self, turn: TurnDone) -> None:
        raise AssertionError("there was no session")


def loaded(entrypoint: Callable[[JobContext], Awaitable[None]]) -> LoadedProgram:
    server = AgentServer(shutdown_process_timeout=0.01)
    server.rtc_session(entrypoint)
    hooks = compat.read_hooks(server)
    assert hooks is not None
    return LoadedProgram(
        server=server,
        hooks=hooks,
        info=compat.read_info(server, "agent.py"),
        connection=compat.read_connection(server),
    )


def order(name: str = "1", traceparent: str = "") -> JobOrder:
    job = agent.Job(id=f"AJ_{name}", room=models.Room(name=f"room-{name}"))
    return JobOrder(
        job_id=JobId(job.id),
        generation=1,
        cause=PlacementCause.NEW,
        job=job.SerializeToString(),
        url="ws://127.0.0.1:1",
        token="",
        accept=AcceptArguments(identity="agent", name="Ann", metadata="m", attributes={"k": "v"}),
        worker_id="W_1",
        received_at=1.0,
        accepted_at=2.0,
        assigned_at=3.0,
        traceparent=traceparent,
    )


@pytest.fixture(autouse=True)
async def _factory() -> None:
    install_task_factory(asyncio.get_running_loop())


async def run(
    entrypoint: Callable[[JobContext], Awaitable[None]], given: JobOrder | None = None
) -> tuple[JobTask, Listener]:
    listener = Listener()
    job = JobTask(given or order(), HostResources(program=loaded(entrypoint)), listener)
    await job.run(contextvars.copy_context())
    return job, listener


async def test_a_job_sees_what_it_was_ordered_with() -> None:
    seen: list[object] = []

    async def entrypoint(ctx: JobContext) -> None:
        info = ctx._info
        seen.extend((ctx.job.room.name, info.accept_arguments.attributes, info.url, info.worker_id))
        seen.extend((info.received_at, info.accepted_at, info.assigned_at))
        assert info.launched_at > 1e9
        ctx.shutdown("seen")

    job, listener = await run(entrypoint)
    assert seen == ["room-1", {"k": "v"}, "ws://127.0.0.1:1", "W_1", 1.0, 2.0, 3.0]
    assert (job.status.outcome, job.status.reason) == ("success", "seen")
    assert listener.phases == [JobPhase.ENDED]


async def test_a_long_error_is_cut() -> None:
    async def entrypoint(ctx: JobContext) -> None:
        raise KeyError("x" * 5000)

    job, _ = await run(entrypoint)
    assert job.status.outcome == "failed"
    assert job.status.reason.startswith("KeyError: 'xxx")
    assert len(job.status.reason) == 300


async def test_an_error_after_the_end_began_is_no_failure() -> None:
    async def entrypoint(ctx: JobContext) -> None:
        ctx.shutdown("the caller hung up")
        await asyncio.sleep(0)
        raise RuntimeError("room is gone")

    job, _ = await run(entrypoint)
    assert (job.status.outcome, job.status.reason) == ("success", "the caller hung up")


async def test_what_a_job_sets_stays_in_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("by the host")

    async def entrypoint(ctx: JobContext) -> None:
        assert variable.get() == "by the host"
        variable.set("by the job")
        ctx.shutdown()

    await run(entrypoint)
    assert variable.get() == "by the host"


async def test_the_spans_of_a_job_hang_under_the_placement() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = tracer._tracer_provider
    compat.adopt_tracer_provider(provider, allow_private=False)
    inside: list[trace.SpanContext] = []

    async def entrypoint(ctx: JobContext) -> None:
        inside.append(trace.get_current_span().get_span_context())
        ctx.shutdown()

    try:
        await run(entrypoint, order(traceparent=f"00-{TRACE_ID}-{PARENT_ID}-01"))
    finally:
        tracer.set_provider(before)
    [root] = [span for span in exporter.get_finished_spans() if span.name == "job_entrypoint"]
    assert root.parent is not None
    assert trace.format_span_id(root.parent.span_id) == PARENT_ID
    assert trace.format_trace_id(root.context.trace_id) == TRACE_ID
    assert inside == [root.context]
    assert not trace.get_current_span().get_span_context().is_valid


async def test_an_aborted_job_runs_no_callbacks_and_frees_its_tasks() -> None:
    running = asyncio.Event()
    called: list[str] = []
    left: list[asyncio.Task[None]] = []

    async def entrypoint(ctx: JobContext) -> None:
        async def bye() -> None:
            called.append("callback")

        async def background() -> None:
            running.set()
            await asyncio.Event().wait()

        ctx.add_shutdown_callback(bye)
        left.append(asyncio.create_task(background()))
        await asyncio.Event().wait()

    listener = Listener()
    job = JobTask(order(), HostResources(program=loaded(entrypoint)), listener)
    task = asyncio.create_task(job.run(contextvars.copy_context()))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called == []
    assert left[0].cancelled()
    assert (job.status.outcome, job.status.reason) == ("failed", "it was aborted")


async def test_a_forgotten_job_says_nothing_more() -> None:
    listener = Listener()

    async def entrypoint(ctx: JobContext) -> None:
        ctx.shutdown()

    job = JobTask(order(), HostResources(program=loaded(entrypoint)), listener)
    job.forget()
    await job.run(contextvars.copy_context())
    assert job.ended
    assert listener.phases == []


async def test_a_stop_before_the_run_ends_the_job(caplog: pytest.LogCaptureFixture) -> None:
    async def entrypoint(ctx: JobContext) -> None: ...

    job = JobTask(order(), HostResources(program=loaded(entrypoint)), Listener())
    with caplog.at_level(logging.WARNING):
        stopping = asyncio.create_task(job.stop("drained"))
        await asyncio.sleep(0)
        await job.run(contextvars.copy_context())
        await stopping
    assert (job.status.outcome, job.status.reason) == ("success", "drained")
