"""Many unmodified jobs on one event loop: admits, runs, stops and drains them."""

import asyncio
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from livekit.agents.job import RunningJobInfo

from voxray.actors.block_reports import report_blocks
from voxray.actors.contracts import (
    Endpoint,
    HostHeartbeat,
    HostSnapshot,
    JobChanged,
    JobOrder,
    JobPhase,
    JobStatus,
    Report,
    RequestAnswer,
)
from voxray.actors.job_executor import HostPool, order_of
from voxray.actors.job_request import ask_program, read_job
from voxray.actors.job_task import HostResources, JobTask
from voxray.actors.job_threads import ScopedExecutor
from voxray.actors.livekit_compat import run_on_host, show_registration
from voxray.actors.loop_watch import LoopWatch
from voxray.actors.session_watch import turn_report
from voxray.actors.task_scope import drop_cancelled_timers, install_task_factory
from voxray.base.errors import CapacityError
from voxray.base.ids import HostId, JobId
from voxray.base.lifecycle import TaskOwner
from voxray.observability.events import LoopLag, TurnDone
from voxray.observability.loop_lag import LoopLagProbe

logger = logging.getLogger(__name__)

_LAG_INTERVAL_S = 0.1
# How often the program's own load is asked for: a stock worker's UPDATE_LOAD_INTERVAL.
_LOAD_INTERVAL_S = 0.5
# Ends that a dispatcher may have missed while its watch was broken.
_ENDED_KEPT = 64
# Clean-up of jobs that are cut short; each has bounds of its own that add up to less.
_ABORT_DEADLINE_S = 30.0


# Answers that are there within this time travel together. Most programs answer at once.
_TOGETHER_S = 0.02
_FORGET_S = 10.0


class SessionHost:
    """The jobs of one process, on the loop that `start` was awaited on.

    Each job runs in a copy of the context that the host was constructed in: on the main thread,
    after the program was loaded, so that a job sees the context variables that the program's
    module set, as in a stock job process. `snapshot` and `heartbeat` may be called from any
    thread; everything else belongs to the loop.
    """

    def __init__(
        self,
        host_id: HostId,
        shared: HostResources,
        *,
        capacity: int,
        endpoint: Endpoint,
        report: Callable[[Report], None],
        version: str = "",
    ) -> None:
        """Prepare a host.

        Args:
            host_id: the host's id.
            shared: the program and what its jobs share.
            capacity: jobs at most.
            endpoint: where the host is reached, for its snapshot.
            report: takes JobChanged, TurnReport, LoopBlocked and LoopFreed, from any thread; must
                not block.
            version: of the program, for its snapshot.
        """
        self._host_id = host_id
        self._shared = shared
        self._capacity = capacity
        self._endpoint = endpoint
        self._report = report
        self._version = version
        self._context = contextvars.copy_context()
        self._lock = threading.RLock()  # For the three below, which other threads read.
        self._jobs: dict[JobId, JobTask] = {}
        self._ended: deque[JobStatus] = deque(maxlen=_ENDED_KEPT)
        self._last_tick_s = time.monotonic()
        self._runs: dict[JobTask, asyncio.Task[None]] = {}
        self._tasks = TaskOwner("session-host")
        self._blocks = shared.blocks
        self._lag_interval_s = (
            min(_LAG_INTERVAL_S, shared.blocks.interval_s) if shared.blocks else _LAG_INTERVAL_S
        )
        self._probe = LoopLagProbe(self._on_tick, interval_s=self._lag_interval_s)
        self._watch: LoopWatch | None = None
        self._spent = False
        # Jobs that the program started by itself: the dispatcher knows nothing of them.
        self._own: set[JobTask] = set()
        self._pool = HostPool(self.launch, host_id=host_id)
        self._restore_factory: Callable[[], None] | None = None
        self._load: float | None = None
        self._asked: dict[str, asyncio.Task[RequestAnswer]] = {}
        self._draining = False
        self._closed = False

    async def start(self) -> None:
        """Take jobs from now on."""
        program = self._shared.program
        loop = asyncio.get_running_loop()
        self._restore_factory = install_task_factory(loop)
        loop.set_default_executor(ScopedExecutor(thread_name_prefix="session-host"))
        if self._blocks is not None:
            self._watch = report_blocks(self._blocks, self._report)
            self._watch.start()
        self._probe.start()
        run_on_host(program.server, self._pool)
        if program.hooks.load_fnc is not None:
            self._tasks.spawn("load", self._follow_load(program.hooks.load_fnc))

    async def request(self, job: bytes) -> RequestAnswer:
        """Run the program's `request_fnc` for a serialised `livekit.Job`."""
        return await ask_program(self._shared.program.hooks.request_fnc, read_job(job), self._tasks)

    async def requests(self, asked: list[tuple[str, bytes]]) -> list[RequestAnswer | None]:
        """Run `request_fnc` for (ticket, serialised job) pairs, all at once.

        Returns:
            The answers in their order; None for one that takes longer than a moment, which
            `late_request` waits for.
        """
        tasks = [self._tasks.spawn(f"ask:{ticket}", self.request(job)) for ticket, job in asked]
        await asyncio.wait(tasks, timeout=_TOGETHER_S)
        answers: list[RequestAnswer | None] = []
        for (ticket, _), task in zip(asked, tasks, strict=True):
            if task.done():
                answers.append(task.result())
                continue
            answers.append(None)
            self._asked[ticket] = task
            # Who asked has given up by then.
            asyncio.get_running_loop().call_later(_FORGET_S, self._asked.pop, ticket, None)
        return answers

    async def late_request(self, ticket: str) -> RequestAnswer:
        """Return the answer to a ticket that `requests` returned None for."""
        task = self._asked.pop(ticket, None)
        if task is None:
            return RequestAnswer(accept=None, error=f"nothing is asked under {ticket}")
        return await task

    async def start_job(self, order: JobOrder) -> None:
        """Start one generation of a job; how it goes on is reported.

        The same order again changes nothing, one of an older generation neither. A newer
        generation replaces the older one silently: that one leaves the room first, without its
        shutdown callbacks, for the call goes on.

        Raises:
            CapacityError: the host is full, draining or closed.
        """
        old = self._jobs.get(order.job_id)
        if old is not None and old.order.generation >= order.generation:
            logger.info("order is not newer than the running job", extra={"job_id": order.job_id})
            return
        if self._draining or self._closed:
            raise CapacityError(f"host {self._host_id} takes no more jobs, {order.job_id} refused")
        if old is None and len(self._placed()) >= self._capacity:
            raise CapacityError(
                f"host {self._host_id} is full ({self._capacity} jobs), {order.job_id} refused"
            )
        if old is None and self._shared.isolated and self._spent:
            raise CapacityError(f"host {self._host_id} has run its one job, {order.job_id} refused")
        self._spent = True
        replaced = self._runs.get(old) if old is not None else None
        if old is not None and replaced is not None:
            old.forget()
            replaced.cancel()
        show_registration(self._shared.program.server, order.worker_id)
        self._begin(JobTask(order, self._shared, self), replaced)

    async def launch(self, info: RunningJobInfo, user_arguments: Any | None = None) -> JobTask:
        """Start a job that the program asks for itself (`server.simulate_job`), beyond all slots.

        Raises:
            CapacityError: the host is draining or closed, or runs this job already.
        """
        order = order_of(info)
        if self._draining or self._closed or order.job_id in self._jobs:
            raise CapacityError(f"host {self._host_id} can't start {order.job_id}")
        job = JobTask(order, self._shared, self, user_arguments=user_arguments)
        self._own.add(job)
        self._begin(job)
        return job

    async def stop_job(self, job_id: JobId, generation: int, reason: str) -> None:
        """Ask a job to end. Another generation, or a job that is gone, is left alone."""
        job = self._jobs.get(job_id)
        if job is not None and job.order.generation == generation:
            self._tasks.spawn(f"stop:{job_id}", job.stop(reason))

    def exited(self, owner: str, error: BaseException) -> bool:
        """End the job that called for the end of the process; return whether there is one."""
        job = self._jobs.get(JobId(owner))
        if job is not None:
            job.exited(error)
        return job is not None

    def fail_jobs(self, reason: str) -> None:
        """Report all jobs as failed: the process is about to be killed. Any thread."""
        for job in self._placed():
            job.forget()
            status = job.status.model_copy(
                update={"phase": JobPhase.ENDED, "outcome": "failed", "reason": reason}
            )
            self._report(JobChanged(status=status))

    async def drain(self, deadline_s: float) -> bool:
        """Refuse new jobs and wait for the running ones; return whether all have ended."""
        self._draining = True
        return await self._wait_for_jobs(deadline_s)

    async def aclose(self, deadline_s: float = 60.0, reason: str = "host is closing") -> None:
        """End all jobs with their shutdown callbacks, abort what is left at the deadline."""
        if self._closed:
            return
        self._closed = True
        for job in list(self._runs):
            self._tasks.spawn(f"stop:{job.order.job_id}", job.stop(reason))
        if not await self._wait_for_jobs(deadline_s):
            logger.warning("jobs are aborted at the deadline", extra={"jobs": len(self._runs)})
        self._probe.stop()
        if self._watch is not None:
            self._watch.stop()
        try:
            await self._tasks.aclose(_ABORT_DEADLINE_S)
        finally:
            if self._restore_factory is not None:
                self._restore_factory()

    def snapshot(self) -> HostSnapshot:
        """Return what the host is and runs, and how its last jobs ended. Any thread."""
        with self._lock:
            jobs = self._placed()
            ended = tuple(self._ended)
        return HostSnapshot(
            host_id=self._host_id,
            endpoint=self._endpoint,
            capacity=self._capacity,
            orders=tuple(job.order for job in jobs),
            statuses=(*(job.status for job in jobs), *ended),
            version=self._version,
            single_use=self._shared.isolated,
            spent=self._shared.isolated and self._spent,
        )

    def heartbeat(self, sequence: int) -> HostHeartbeat:
        """Return a heartbeat, also while a job blocks the loop. Any thread."""
        jobs = len(self._placed())
        silence_s = time.monotonic() - self._last_tick_s
        return HostHeartbeat(
            host_id=self._host_id,
            sequence=sequence,
            jobs=jobs,
            loop_lag_s=max(0.0, silence_s - self._lag_interval_s),
            load=self._load,
        )

    def job_changed(self, job: JobTask) -> None:
        """Report a job's new phase (as the jobs' listener)."""
        logger.info(
            "job changed",
            extra={"job_id": job.order.job_id, "phase": job.status.phase.value}
            | ({"reason": job.status.reason} if job.ended else {}),
        )
        if job.ended:
            # Before the report: who asks for a snapshot now must not see it run.
            self._remove(job)
        if job in self._own:
            return
        if job.ended:
            with self._lock:
                self._ended.append(job.status)
        self._report(JobChanged(status=job.status))

    def turn_done(self, turn: TurnDone) -> None:
        """Report a turn (as the jobs' listener)."""
        if self._jobs.get(turn.job_id) not in self._own:
            self._report(turn_report(turn))

    def _placed(self) -> tuple[JobTask, ...]:
        """Return the jobs that the dispatcher placed here. Any thread."""
        with self._lock:
            return tuple(job for job in self._jobs.values() if job not in self._own)

    def _begin(self, job: JobTask, replaced: asyncio.Task[None] | None = None) -> None:
        with self._lock:
            self._jobs[job.order.job_id] = job
        self._pool.show(job)
        self._runs[job] = self._tasks.spawn(f"job:{job.order.job_id}", self._run(job, replaced))

    async def _run(self, job: JobTask, replaced: asyncio.Task[None] | None) -> None:
        try:
            if replaced is not None:
                await asyncio.wait({replaced})
            await job.run(self._context.copy())
        finally:
            self._runs.pop(job, None)
            self._remove(job)
            self._own.discard(job)
            drop_cancelled_timers(asyncio.get_running_loop())

    def _remove(self, job: JobTask) -> None:
        self._pool.hide(job)
        with self._lock:
            if self._jobs.get(job.order.job_id) is job:
                del self._jobs[job.order.job_id]

    async def _wait_for_jobs(self, deadline_s: float) -> bool:
        """Wait until no job runs, those included that come meanwhile."""
        try:
            async with asyncio.timeout(deadline_s):
                while self._runs:
                    await asyncio.wait(set(self._runs.values()))
        except TimeoutError:
            return False
        return True

    async def _follow_load(self, load_fnc: Callable[[], float]) -> None:
        while True:
            try:
                self._load = float(await asyncio.to_thread(load_fnc))
            except (Exception, SystemExit):
                logger.exception("load_fnc failed, its last value stays")
            await asyncio.sleep(_LOAD_INTERVAL_S)

    def _on_tick(self, late_s: float) -> None:
        self._last_tick_s = time.monotonic()
        self._shared.sink.emit(LoopLag(process="host", seconds=late_s))
        if self._watch is not None:
            self._watch.ticked(late_s)
