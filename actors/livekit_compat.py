"""The only user of private names of livekit-agents: what a stock worker does inside itself.

Tested with the versions in `TESTED_VERSIONS`; `pyproject.toml` holds the upper bounds, and
`tests/contract/test_livekit_compat.py` every private name and behaviour that is relied upon.
Everything here is typed, so that no private name is seen elsewhere.
"""

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from livekit import agents
from livekit.agents import (
    AgentServer,
    JobContext,
    JobExecutorType,
    WorkerOptions,
    cli,
)
from livekit.agents.job import RunningJobInfo
from livekit.agents.utils import aio, http_context
from livekit.protocol import models
from opentelemetry.sdk.trace import TracerProvider

from voxray.actors.contracts import ProgramInfo
from voxray.actors.job_executor import HostPool
from voxray.actors.livekit_options import permissions_of, unapplied_options
from voxray.actors.program import (
    Entrypoint,
    InferenceExecutor,
    InferenceRunner,
    ProgramHooks,
    ServerConnection,
)
from voxray.base.errors import MissingPartError

TESTED_VERSIONS = {"livekit-agents": "1.8.9", "livekit": "1.1.21"}

try:
    from livekit.agents.cli import cli as _cli_module
    from livekit.agents.inference_runner import _InferenceRunner
    from livekit.agents.ipc.job_proc_lazy_main import _JobProc
    from livekit.agents.ipc.proc_client import _ProcClient
    from livekit.agents.ipc.proto import (
        Exiting,
        InferenceRequest,
        InferenceResponse,
        InitializeRequest,
        ShutdownRequest,
        ShuttingDown,
        StartJobRequest,
    )
    from livekit.agents.worker import (
        ServerEnvOption,
        _default_request_fnc,
        _default_setup_fnc,
        _DefaultLoadCalc,
    )
except ImportError as error:  # pragma: no cover - the contract test pins every name
    raise MissingPartError(
        f"livekit-agents {agents.__version__} lacks a name that voxray needs ({error}); "
        f"install livekit-agents {TESTED_VERSIONS['livekit-agents']}"
    ) from error

# The reason that livekit-agents gives when the entrypoint raised before anything else ended
# the job (`_JobProc._run_job_task`).
_CRASHED = "job crashed"
STOPPED = "parent process shutdown"
"""What shutdown callbacks get as the reason when the worker ends a job (as above)."""


def read_hooks(server: AgentServer) -> ProgramHooks | None:
    """Return what a program registered, or None without an `rtc_session`."""
    entrypoint = _private(server, "_entrypoint_fnc")
    if entrypoint is None:
        return None
    request_fnc = _private(server, "_request_fnc")
    setup_fnc = server.setup_fnc
    return ProgramHooks(
        entrypoint=entrypoint,
        request_fnc=None if request_fnc is _default_request_fnc else request_fnc,
        setup_fnc=None if setup_fnc is _default_setup_fnc else setup_fnc,
        session_end_fnc=_private(server, "_session_end_fnc"),
        simulation_end_fnc=_private(server, "_simulation_end_fnc"),
        load_fnc=_bound_load_fnc(server),
        session_end_timeout_s=float(_private(server, "_session_end_timeout")),
        http_proxy=_private(server, "_http_proxy") or "",
    )


def read_info(server: AgentServer, path: str) -> ProgramInfo:
    """Return what the dispatcher has to know of a program."""
    hooks = read_hooks(server)
    dev = agents.utils.is_dev_mode()
    threshold = ServerEnvOption.getvalue(_private(server, "_load_threshold"), dev)
    has_load_fnc = hooks is not None and hooks.load_fnc is not None
    return ProgramInfo(
        path=path,
        agent_name=_private(server, "_agent_name"),
        worker_type=_private(server, "_server_type").value,
        permissions=permissions_of(server),
        has_request_fnc=hooks is not None and hooks.request_fnc is not None,
        has_load_fnc=has_load_fnc,
        # Stock's threshold bounds CPU load; without a load of the program's own it means nothing.
        load_threshold=threshold if has_load_fnc and math.isfinite(threshold) else None,
        drain_timeout_s=float(_private(server, "_drain_timeout")),
        initialize_timeout_s=float(_private(server, "_initialize_process_timeout")),
        shutdown_timeout_s=float(_private(server, "_shutdown_process_timeout")),
        session_end_timeout_s=float(_private(server, "_session_end_timeout")),
        max_retry=_private(server, "_max_retry"),
        sdk_version=agents.__version__,
        deployment=_private(server, "_deployment"),
        http_proxy=_private(server, "_http_proxy") or "",
        log_level=ServerEnvOption.getvalue(server.log_level, dev),
        job_memory_warn_mb=float(_private(server, "_job_memory_warn_mb")),
        job_memory_limit_mb=float(_private(server, "_job_memory_limit_mb")),
        unapplied_options=unapplied_options(server, has_load_fnc=has_load_fnc),
    )


def read_connection(server: AgentServer) -> ServerConnection:
    """Return address and keys as the AgentServer has them; empty where it has none."""
    return ServerConnection(
        url=_private(server, "_ws_url"),
        api_key=_private(server, "_api_key"),
        api_secret=_private(server, "_api_secret"),
    )


@contextmanager
def capture_run_app(found: list[AgentServer]) -> Iterator[None]:
    """Collect the servers given to `cli.run_app` instead of running them."""

    def run_app(server: AgentServer | WorkerOptions) -> None:
        if isinstance(server, WorkerOptions):
            server = AgentServer.from_server_options(server)
        found.append(server)

    original = cli.run_app
    # Programs call `cli.run_app(...)` or import `run_app` from either of the two modules.
    places: tuple[Any, ...] = (cli, _cli_module)
    for place in places:
        place.run_app = run_app
    try:
        yield
    finally:
        for place in places:
            place.run_app = original


def run_on_host(server: AgentServer, pool: HostPool) -> None:
    """Let `server.active_jobs` and `server.simulate_job` work, and tell it that it has started.

    On the event loop of the jobs.
    """
    server._proc_pool = cast("Any", pool)
    server.emit("worker_started")


def show_registration(server: AgentServer, worker_id: str) -> None:
    """Let `server.id` be the worker's, and tell handlers of `worker_registered` of a new one."""
    if worker_id and server._id != worker_id:
        server._id = worker_id
        server.emit("worker_registered", worker_id, models.ServerInfo())


def prepare_process() -> None:
    """Do what a stock worker does once per process: certificates, and the slow first imports."""
    http_context._set_default_cert_env()
    # Stock's loop monitor stays off: it can name only one job a loop (see `SessionHost`).
    from livekit.agents.ipc import _preload  # noqa: F401, PLC0415 - importing is the work


def registered_runners() -> Mapping[str, Callable[[], InferenceRunner]]:
    """Return the inference runners that imported plugins registered, by method name."""
    return dict(_InferenceRunner.registered_runners)


def adopt_tracer_provider(provider: TracerProvider, *, allow_private: bool | None) -> None:
    """Make livekit-agents record its spans with our provider.

    Args:
        provider: the process's provider.
        allow_private: whether words and identities may leave with the spans; None leaves that
            to livekit-agents and its variable LIVEKIT_TELEMETRY_ALLOW_PII.
    """
    agents.telemetry.set_tracer_provider(provider, allow_pii=allow_private)


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job's life cycle ended.

    Attributes:
        reason: the shutdown reason, as shutdown callbacks got it.
        crashed: whether the entrypoint raised and this ended the job.
    """

    reason: str
    crashed: bool


class JobDriver:
    """Runs one job through livekit-agents' own life cycle, on the loop and in the context of the
    task that awaits `run`.
    """

    def __init__(
        self,
        hooks: ProgramHooks,
        job: RunningJobInfo,
        *,
        entrypoint: Entrypoint,
        userdata: Mapping[str, Any],
        executor: InferenceExecutor | None,
        isolated: bool = False,
    ) -> None:
        """Prepare a job.

        Args:
            hooks: the program.
            job: the job and how it came here.
            entrypoint: what is run in place of `hooks.entrypoint`, to watch it.
            userdata: what `setup_fnc` left; the job gets a shallow copy.
            executor: runs inference runners; None when no plugin registered one.
            isolated: the job has this process for itself.
        """
        self._messages: aio.Chan[Any] = aio.Chan()
        start = StartJobRequest()
        start.running_job = job
        # Now, so that a shutdown never comes before it.
        self._messages.send_nowait(start)
        self._client = _Client(self._messages, executor)
        self._http_proxy = hooks.http_proxy
        self._process = _JobProc(
            lambda process: process.userdata.update(userdata),
            entrypoint,
            hooks.session_end_fnc,
            session_end_timeout=hooks.session_end_timeout_s,
            # Beside other jobs THREAD keeps `log_context_fields` on the job's own lines; alone, a
            # job's fields go on every line of the process, as in a stock one.
            executor_type=JobExecutorType.PROCESS if isolated else JobExecutorType.THREAD,
            simulation_end_fnc=hooks.simulation_end_fnc,
        )

    def set_user_arguments(self, value: Any | None) -> None:
        """Say what the job finds as `ctx.proc.user_arguments`; before it runs."""
        self._process._user_arguments = value

    async def wait_callbacks(self) -> None:
        """Return once only leaving the room and the shutdown callbacks are left, or nothing is."""
        await self._client.shutting_down.wait()

    def shutdown(self, reason: str = "") -> None:
        """End the job as a stock worker does: session, callbacks, room. Idempotent.

        Shutdown callbacks get the reason; for an empty one stock's own word, `STOPPED`.
        """
        self._messages.send_nowait(ShutdownRequest(reason=reason))

    async def run(self) -> JobEnd:
        """Run the job to its end.

        Raises:
            Exception: livekit-agents itself failed; the entrypoint's errors end up in `JobEnd`.
        """
        self._process.initialize(
            InitializeRequest(http_proxy=self._http_proxy), cast("_ProcClient", self._client)
        )
        try:
            await self._process.entrypoint(self._messages)
        finally:
            self._client.shutting_down.set()
        # The stock process dies here; a failure of its life cycle is only in the task.
        task = self._process._job_task
        if task is not None and task.done() and not task.cancelled():
            task.result()
        reason = self._client.reason
        return JobEnd(reason=reason, crashed=reason == _CRASHED)


class _Client:
    """Stands where a stock job has its socket to the worker."""

    def __init__(self, messages: aio.Chan[Any], executor: InferenceExecutor | None) -> None:
        self._messages = messages
        self._executor = executor
        self.shutting_down = asyncio.Event()
        self.reason = ""

    async def send(self, message: object) -> None:
        """Take one message of the job."""
        if isinstance(message, ShuttingDown):
            self.shutting_down.set()
        elif isinstance(message, Exiting):
            self.reason = message.reason
        elif isinstance(message, InferenceRequest):
            self._messages.send_nowait(await self._infer(message))

    async def _infer(self, request: InferenceRequest) -> InferenceResponse:
        if self._executor is None:
            return InferenceResponse(
                request_id=request.request_id, error="no inference runner is registered"
            )
        try:
            data = await self._executor.do_inference(request.method, request.data)
        except Exception as error:
            return InferenceResponse(request_id=request.request_id, error=str(error))
        return InferenceResponse(request_id=request.request_id, data=data)


def let_go(job: JobContext) -> None:
    """Take back the log filters that a job left which was cut short."""
    for handler in job._handlers_with_filter:
        handler.removeFilter(job._log_filter)


def _private(server: AgentServer, name: str) -> Any:
    try:
        return getattr(server, name)
    except AttributeError as error:
        raise MissingPartError(
            f"livekit-agents {agents.__version__} has no AgentServer.{name}, which voxray needs; "
            f"install livekit-agents {TESTED_VERSIONS['livekit-agents']}"
        ) from error


def _bound_load_fnc(server: AgentServer) -> Callable[[], float] | None:
    load_fnc = server.load_fnc
    # The default follows the machine's CPU; bound classmethods compare equal, not identical.
    if load_fnc is None or load_fnc == _DefaultLoadCalc.get_load:
        return None
    takes_server = bool(inspect.signature(load_fnc).parameters)
    function: Callable[..., float] = load_fnc
    return functools.partial(function, server) if takes_server else function
