"""livekit-agents' `JobExecutor` over a session host, and the pool that an `AgentServer` asks."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from livekit.agents.ipc.job_executor import JobExecutor, JobStatus
from livekit.agents.job import JobAcceptArguments, RunningJobInfo
from livekit.agents.utils import shortuuid

from voxray.actors.contracts import AcceptArguments, JobOrder, JobPhase, PlacementCause
from voxray.actors.contracts import JobStatus as HostedStatus
from voxray.actors.job_request import read_job
from voxray.base.ids import JobId


class HostedJob(Protocol):
    """A job that a session host runs (`JobTask`)."""

    info: RunningJobInfo
    status: HostedStatus

    async def stop(self, reason: str) -> None:
        """End it as a stock worker does; returns when it has ended."""
        ...

    def on_ended(self, callback: Callable[[], None]) -> None:
        """Call back once it has ended, at once if it has."""
        ...


Launch: TypeAlias = Callable[[RunningJobInfo, Any], Awaitable[HostedJob]]
"""Starts a job on a host, with its `user_arguments`; raises CapacityError if it can't."""


class HostedJobExecutor:
    """One place for a job on a session host; satisfies `livekit.agents.ipc.JobExecutor`.

    A stock executor starts a process or a thread and warms it up; the host's process runs, and ran
    `setup_fnc`, long before. Each executor runs one job in its life, on the host's event loop.
    """

    def __init__(self, launch: Launch, *, host_id: str) -> None:
        """Prepare a place; it takes no slot before `launch_job`.

        Args:
            launch: starts the job.
            host_id: the host's, for `logging_extra`.
        """
        self._launch = launch
        self._host_id = host_id
        self._id = shortuuid("HOSTEXEC_")
        self._user_arguments: Any | None = None
        self._started = False
        self._initialized = False
        self._info: RunningJobInfo | None = None
        self._job: HostedJob | None = None
        self._failed = False
        self._over = asyncio.Event()

    @classmethod
    def of(cls, job: HostedJob, *, host_id: str) -> "HostedJobExecutor":
        """Return the executor of a job that runs already. On the host's event loop."""

        async def running(_: RunningJobInfo, __: Any) -> HostedJob:
            return job

        executor = cls(running, host_id=host_id)
        executor._started = executor._initialized = True
        executor._follow(job)
        return executor

    @property
    def id(self) -> str:
        """Id of this executor."""
        return self._id

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._started

    @property
    def user_arguments(self) -> Any | None:
        """What the job finds as `ctx.proc.user_arguments`."""
        return self._user_arguments

    @user_arguments.setter
    def user_arguments(self, value: Any | None) -> None:
        self._user_arguments = value

    @property
    def running_job(self) -> RunningJobInfo | None:
        """The job, from its launch on; also after its end, as in a stock executor."""
        return self._info

    @property
    def status(self) -> JobStatus:
        """How the job is.

        Raises:
            RuntimeError: there was none yet.
        """
        if self._info is None:
            raise RuntimeError("job status not available")
        if self._failed:
            return JobStatus.FAILED
        if self._job is None or self._job.status.phase is not JobPhase.ENDED:
            return JobStatus.RUNNING
        succeeded = self._job.status.outcome == "success"
        return JobStatus.SUCCESS if succeeded else JobStatus.FAILED

    async def start(self) -> None:
        """Take the place.

        Raises:
            RuntimeError: it was taken or closed before.
        """
        if self._started:
            raise RuntimeError("runner already started")
        if self._over.is_set():
            raise RuntimeError("runner is closed")
        self._started = True

    async def initialize(self) -> None:
        """Make ready for a job; the host's own start has done the work.

        Raises:
            RuntimeError: it was not started.
        """
        if not self._started:
            raise RuntimeError("runner not started")
        self._initialized = True

    async def launch_job(self, info: RunningJobInfo) -> None:
        """Start a job.

        Raises:
            RuntimeError: there was one already, or the executor is not initialized.
            CapacityError: the host takes no more jobs.
        """
        if self._info is not None:
            raise RuntimeError("executor already has a running job")
        if not self._initialized or self._over.is_set():
            raise RuntimeError("executor not initialized")
        self._info = info
        try:
            job = await self._launch(info, self._user_arguments)
        except BaseException:
            self._failed = True
            self._over.set()
            raise
        self._follow(job)

    async def join(self) -> None:
        """Wait until the job has ended, or the executor was closed without one.

        Raises:
            RuntimeError: it was not started.
        """
        if not self._started:
            raise RuntimeError("runner not started")
        await self._over.wait()

    async def aclose(self) -> None:
        """End the job as a stock worker does, shutdown callbacks included. Idempotent."""
        if self._job is None:
            self._over.set()
            return
        await self._job.stop("")
        await self._over.wait()

    def logging_extra(self) -> dict[str, Any]:
        """Return what log lines about this executor carry."""
        extra: dict[str, Any] = {"host_id": self._host_id}
        if self._info is not None:
            job = self._info.job
            extra |= {"job_id": job.id, "room": job.room.name, "room_id": job.room.sid}
            if job.agent_name:
                extra["agent_name"] = job.agent_name
        return extra

    def _follow(self, job: HostedJob) -> None:
        self._job, self._info = job, job.info
        job.on_ended(self._over.set)


class HostPool:
    """The jobs of a host as `AgentServer` sees those of its `ProcPool`.

    `server.active_jobs` and `server.simulate_job` ask it. What is launched here is the program's
    own doing: LiveKit and the dispatcher know nothing of it.
    """

    def __init__(self, launch: Launch, *, host_id: str) -> None:
        self._launch = launch
        self._host_id = host_id
        # Replaced as a whole at each change: a `load_fnc` reads it on a thread of its own.
        self._executors: dict[HostedJob, HostedJobExecutor] = {}

    @property
    def processes(self) -> list[JobExecutor]:
        """The executors of the jobs that run. Any thread."""
        return [*self._executors.values()]

    def get_by_job_id(self, job_id: str) -> JobExecutor | None:
        """Return the executor of a job that runs."""
        for job, executor in self._executors.items():
            if job.info.job.id == job_id:
                return executor
        return None

    async def launch_job(self, info: RunningJobInfo) -> None:
        """Start a job of the program's own on this host.

        Raises:
            CapacityError: the host takes no more jobs.
        """
        info.launched_at = time.time()
        executor = HostedJobExecutor(self._launch, host_id=self._host_id)
        await executor.start()
        await executor.initialize()
        await executor.launch_job(info)

    def show(self, job: HostedJob) -> None:
        """Take a job in that has begun. On the host's event loop."""
        executor = HostedJobExecutor.of(job, host_id=self._host_id)
        self._executors = {**self._executors, job: executor}

    def hide(self, job: HostedJob) -> None:
        """Let a job go that has ended. Idempotent."""
        self._executors = {each: own for each, own in self._executors.items() if each is not job}


def order_of(info: RunningJobInfo) -> JobOrder:
    """Return the order for a job that a program starts itself."""
    accept = info.accept_arguments
    return JobOrder(
        job_id=JobId(info.job.id),
        generation=1,
        cause=PlacementCause.NEW,
        job=info.job.SerializeToString(),
        url=info.url,
        token=info.token,
        accept=AcceptArguments(
            name=accept.name,
            identity=accept.identity,
            metadata=accept.metadata,
            attributes=accept.attributes or {},
        ),
        worker_id=info.worker_id,
        received_at=info.received_at,
        accepted_at=info.accepted_at,
        assigned_at=info.assigned_at,
        room=info.job.room.name,
        fake_job=info.fake_job,
    )


def info_of(order: JobOrder, *, launched_at: float) -> RunningJobInfo:
    """Return what livekit-agents has to know of an ordered job."""
    accept = order.accept
    return RunningJobInfo(
        accept_arguments=JobAcceptArguments(
            name=accept.name,
            identity=accept.identity,
            metadata=accept.metadata,
            attributes=dict(accept.attributes) or None,
        ),
        job=read_job(order.job),
        url=order.url,
        token=order.token,
        worker_id=order.worker_id,
        fake_job=order.fake_job,
        received_at=order.received_at,
        accepted_at=order.accepted_at,
        assigned_at=order.assigned_at,
        launched_at=launched_at,
    )


if TYPE_CHECKING:

    def _satisfies(executor: HostedJobExecutor) -> JobExecutor:
        return executor
