"""A session host as a process: the program, its jobs' loop, control, inference and metrics.

Constructed on the main thread, where the program is imported. The jobs have a loop of their own
and control has another, so that a program that blocks its loop is seen, and still answers.
"""

import contextlib
import gc
import importlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxray.actors import livekit_compat, rtc_compat
from voxray.actors.contracts import Endpoint, JobOrder, ReplicaEndpoint, RequestAnswer
from voxray.actors.control import ControlServer, ReportHub
from voxray.actors.job_logs import current_job, mark_lines_of_jobs
from voxray.actors.job_request import ANSWER_TIMEOUT_S
from voxray.actors.job_task import HostResources
from voxray.actors.local_inference import LocalInference
from voxray.actors.loop_watch import scope_of_traceback, thresholds
from voxray.actors.memory_guard import MemoryGuard, MemoryJudge
from voxray.actors.place import Place, quietly
from voxray.actors.program import LoadedProgram, prewarm
from voxray.actors.room_joining import see_joins_through
from voxray.actors.rtc_leftovers import follow_rtc
from voxray.actors.session_host import SessionHost
from voxray.actors.start_watch import bounded, explained, frames_of
from voxray.actors.task_scope import hide_other_tasks
from voxray.app import load_program
from voxray.base.errors import DeadlineError, ProgramError
from voxray.base.ids import HostId, JobId
from voxray.base.lifecycle import LoopThread
from voxray.base.priority import come_back
from voxray.base.settings import Settings
from voxray.base.timing import SystemClock
from voxray.base.tls import load_certificates
from voxray.observability import logs, tracing
from voxray.observability.exporter import MetricsServer
from voxray.observability.metrics import MetricsSink
from voxray.pipelines import runtime
from voxray.pipelines.remote_client import RemoteInferenceClient
from voxray.pipelines.routing import Replica

logger = logging.getLogger(__name__)

# Short calls into a loop; the dispatcher waits a little longer for each.
_CALL_S = 4.0
_ANSWER_S = ANSWER_TIMEOUT_S + 0.3
_START_S = 10.0
# The dispatcher waits 60 s for a host to close before it kills it.
_JOBS_CLOSE_S = 40.0
_CLOSE_S = 5.0
_FLUSH_S = 2.0
_PLUGIN_MODULES = tuple(f"voxray.pipelines.plugins.{name}" for name in ("stt", "tts", "vad"))
_PRELOAD = "LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE"
_ALLOW_PRIVATE = "LIVEKIT_TELEMETRY_ALLOW_PII"
_REGION = "LIVEKIT_REGION_NAME"


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """What a host process is made with.

    Attributes:
        program_path: the user's program.
        environment: variables that the program gets.
        token: shared secret of the app's gRPC ports; None trusts everybody.
        version: of the program, as the dispatcher calls it.
    """

    host_id: HostId
    program_path: Path
    settings: Settings
    environment: dict[str, str]
    place: Place
    token: str | None = None
    version: str = ""


class HostProcess:
    """Runs one session host in this process. Every method may be called from any thread."""

    def __init__(self, config: HostConfig) -> None:
        """Import the program, run its `setup_fnc` and take jobs. On the main thread.

        Raises:
            ProgramError: the program can't be loaded, or its `setup_fnc` raised.
            PortTakenError: no port is free in the configured range.
        """
        self._config = config
        settings = config.settings
        self._undo = contextlib.ExitStack()
        os.environ.update(config.environment)
        # Loaded when first used instead: a quarter of a gigabyte that few programs need.
        os.environ.setdefault(_PRELOAD, "0")
        fields = {"host_id": str(config.host_id)}
        if region := os.environ.get(_REGION):
            # On every line, as livekit-agents has it where LiveKit Cloud runs an agent.
            fields["region"] = region
        logs.configure(settings.telemetry, role="host", fields=fields)
        mark_lines_of_jobs()
        try:
            self._tracing = tracing.setup(
                settings.telemetry, role="host", app=settings.app, adopt=self._adopt
            )
            self._undo.callback(self._tracing.shutdown)
            shared = self._load()
            self._start(shared)
            # What came before was behind the calls of this machine.
            come_back()
        except BaseException:
            self._undo.close()
            raise
        # What was imported lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()

    @property
    def endpoint(self) -> Endpoint:
        """Where the host is reached."""
        return self._endpoint

    def requests(self, asked: list[tuple[str, bytes]]) -> list[RequestAnswer | None]:
        """Run the program's `request_fnc` for many jobs, as `SessionHost.requests` does.

        A loop that is blocked is an answer too.
        """
        try:
            return self._jobs.call(self._host.requests(asked), _ANSWER_S)
        except DeadlineError as error:
            return [RequestAnswer(accept=None, error=str(error)) for _ in asked]

    def late_request(self, ticket: str) -> RequestAnswer:
        """Return the answer that was not there yet."""
        try:
            return self._jobs.call(self._host.late_request(ticket), _ANSWER_S)
        except DeadlineError as error:
            return RequestAnswer(accept=None, error=str(error))

    def start_job(self, order: JobOrder) -> None:
        """Start one generation of a job.

        Raises:
            CapacityError: the host is full, draining or closed.
            DeadlineError: the jobs' loop is blocked.
        """
        self._call(self._host.start_job(order))

    def stop_job(self, job_id: JobId, generation: int, reason: str) -> None:
        """Ask a job to end.

        Raises:
            DeadlineError: the jobs' loop is blocked.
        """
        self._call(self._host.stop_job(job_id, generation, reason))

    def set_replicas(self, replicas: tuple[ReplicaEndpoint, ...]) -> None:
        """Tell the plugins' client where inference is; takes effect when the loop comes to it."""
        known = tuple(
            Replica(
                replica_id=replica.replica_id,
                group=replica.group,
                engines=replica.engines,
                address=replica.address,
                node=replica.node,
            )
            for replica in replicas
        )
        self._jobs.loop.call_soon_threadsafe(self._inference.set_replicas, known)

    def drain(self, deadline_s: float) -> None:
        """Take no more jobs; how those that run end is reported."""
        self._jobs.submit(self._host.drain(deadline_s))

    def close(self) -> None:
        """End all jobs with their shutdown callbacks, then everything else. Idempotent."""
        self._undo.close()

    def _call(self, order: Coroutine[Any, Any, None]) -> None:
        """Run a short order on the jobs' loop, in time or not at all."""
        late = threading.Event()

        async def run_in_time() -> None:
            if late.is_set():
                # The dispatcher was told that it failed, and has gone elsewhere with it.
                order.close()
            else:
                await order

        try:
            self._jobs.call(run_in_time(), _CALL_S)
        except DeadlineError:
            late.set()
            raise

    def _adopt(self, provider: Any) -> None:
        # Without the switch of livekit-agents, nothing that was said leaves with the spans.
        asked_for = _ALLOW_PRIVATE in os.environ
        livekit_compat.adopt_tracer_provider(provider, allow_private=None if asked_for else False)

    def _load(self) -> HostResources:
        hide_other_tasks()
        # Before the program, which may use livekit.rtc as it is imported.
        rtc_compat.quiet_native_runtime(os.environ)
        see_joins_through()
        follow_rtc()
        path, limit_s = self._config.program_path, self._config.settings.hosts.start_timeout_s
        with bounded(f"{path}: its import", limit_s):
            program = _loaded(path)
        self._take_log_level(program)
        livekit_compat.prepare_process()
        # A program may name the plugins first inside a job: their import, up to half a second,
        # would stop the loop of all calls then. They are also listed on this thread only.
        for name in _PLUGIN_MODULES:
            importlib.import_module(name)
        isolated = self._config.settings.hosts.isolation == "process"
        userdata = _prewarm(program, isolated=isolated)
        executor: LocalInference | None = None
        if runners := livekit_compat.registered_runners():
            executor = LocalInference(runners)
            self._undo.callback(executor.close)
            executor.load()
        self._sink = MetricsSink()
        return HostResources(
            program=program,
            userdata=userdata,
            executor=executor,
            sink=self._sink,
            isolated=isolated,
            blocks=thresholds(self._config.settings.hosts.block_report_s, os.environ),
        )

    def _take_log_level(self, program: LoadedProgram) -> None:
        """Log as the program's `log_level` says, where nobody has said anything else."""
        telemetry = self._config.settings.telemetry
        if "log_level" not in telemetry.model_fields_set:
            logs.set_level(program.info.log_level)

    def _start(self, shared: HostResources) -> None:
        """Start everything, the control stream before the jobs that it reports on.

        What is undone runs in the opposite order: jobs end while their reports still go out.
        """
        config, place = self._config, self._config.place
        metrics = MetricsServer(
            place.address,
            config.settings.http.metrics_ports,
            self._sink.registry,
            token=config.token,
        )
        metrics_port = metrics.start()
        self._undo.callback(metrics.close)
        hub = ReportHub(config.settings.hosts.heartbeat_s)
        # Both loops stop last: grpc has one queue of events for all loops of a process.
        control = self._loop_thread("control")
        self._jobs = self._loop_thread("jobs", on_escape=self._escaped)
        self._certificates = load_certificates(config.settings.inference.tls)
        server = ControlServer(hub, token=config.token, certificates=self._certificates)
        port = control.call(server.start(place.address), _START_S)
        self._undo.callback(quietly(lambda: control.call(server.aclose(), _CLOSE_S)))
        self._endpoint = place.endpoint(port=port, metrics_port=metrics_port)
        self._inference = self._jobs.call(self._connect_inference(), _START_S)
        runtime.install(self._inference)
        self._undo.callback(quietly(lambda: self._jobs.call(self._inference.aclose(), _CLOSE_S)))
        self._undo.callback(runtime.uninstall, self._inference)
        self._host = SessionHost(
            config.host_id,
            shared,
            capacity=config.settings.hosts.slots_per_host,
            endpoint=self._endpoint,
            report=hub.publish,
            version=config.version,
        )
        self._jobs.call(self._host.start(), _START_S)
        self._undo.callback(
            quietly(lambda: self._jobs.call(self._host.aclose(_JOBS_CLOSE_S), _JOBS_CLOSE_S + 10))
        )
        if shared.isolated:
            self._guard_memory(shared, hub)
        hub.attach(snapshot=lambda: (self._host.snapshot(),), heartbeat=self._host.heartbeat)

    def _escaped(self, error: BaseException) -> None:
        """A job called for the end of its process: it ends alone. On the jobs' thread."""
        scope = scope_of_traceback(error.__traceback__)
        if scope is None or not self._host.exited(scope.owner, error):
            logger.error(
                "%s left the event loop of the jobs, it goes on",
                type(error).__name__,
                exc_info=error,
            )

    def _guard_memory(self, shared: HostResources, hub: ReportHub) -> None:
        info = shared.program.info
        judge = MemoryJudge(info.job_memory_warn_mb, info.job_memory_limit_mb)

        def over(used_mb: float) -> None:
            self._host.fail_jobs(
                f"its process used {used_mb:.0f} MB, "
                f"over job_memory_limit_mb of {judge.limit_mb:.0f} MB, and was killed"
            )
            # Who does not hear of the end would resume the job, on a host that it fills next.
            hub.flush(_FLUSH_S)
            os.kill(os.getpid(), signal.SIGKILL)

        guard = MemoryGuard(judge, over)
        guard.start()
        self._undo.callback(guard.stop)

    async def _connect_inference(self) -> RemoteInferenceClient:
        config = self._config
        client = RemoteInferenceClient(
            host_id=config.host_id,
            node=config.place.node,
            coalesce_ms=config.settings.inference.coalesce_ms,
            sink=self._sink,
            clock=SystemClock(),
            token=config.token,
            certificates=self._certificates,
        )
        client.call_of = current_job
        return client

    def _loop_thread(
        self, name: str, on_escape: Callable[[BaseException], None] | None = None
    ) -> LoopThread:
        thread = LoopThread(name, on_escape)
        self._undo.callback(thread.stop)
        return thread


def _loaded(path: Path) -> LoadedProgram:
    try:
        return load_program(path)
    except ProgramError as error:
        error.details = frames_of(error)
        raise


def _prewarm(program: LoadedProgram, *, isolated: bool) -> dict[str, Any]:
    what = f"{program.info.path}: its setup_fnc"
    with bounded(what, program.info.initialize_timeout_s), explained(what):
        return prewarm(program.hooks, isolated=isolated)
