"""One generation of one job: its own context, its phases, its end, and nothing left behind."""

import asyncio
import itertools
import logging
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

from livekit import rtc
from livekit.agents import AgentSession, JobContext
from opentelemetry import context as otel_context

from voxray.actors.contracts import JobOrder, JobPhase, JobStatus
from voxray.actors.job_end import (
    ROOM_DELETED,
    describe,
    is_alone_elsewhere,
    is_clean_exit,
)
from voxray.actors.job_executor import info_of
from voxray.actors.livekit_compat import STOPPED, JobDriver, JobEnd, let_go
from voxray.actors.loop_watch import BlockThresholds
from voxray.actors.program import InferenceExecutor, LoadedProgram
from voxray.actors.room_joining import let_go_of_events
from voxray.actors.rtc_leftovers import leave_rooms, let_go_of_streams, rooms_of
from voxray.actors.session_watch import observe_sessions
from voxray.actors.task_scope import TaskScope
from voxray.base.timing import Clock, SystemClock
from voxray.observability.events import EventSink, NullSink, TurnDone
from voxray.observability.tracing import context_from
from voxray.observability.turns import TurnCollector

logger = logging.getLogger(__name__)

# What livekit-agents grants a shutdown before its callbacks: 15 s for the entrypoint to return
# and 60 s for the session to close (`job_proc_lazy_main`), then the program's own timeout.
_ENTRYPOINT_GRACE_S = 15.0
_SESSION_CLOSE_S = 60.0
# A connected agent that published nothing for so long is a listener, and runs.
_SILENT_AGENT_S = 5.0
# Longest clean-up after the life cycle, and after a cancellation: nothing of it is the program's
# promised time any more.
_CLEANUP_S = 5.0
_PHASE_ORDER = tuple(JobPhase)


class JobListener(Protocol):
    """Told what happens to a job, on its loop. Never blocks, never raises."""

    def job_changed(self, job: "JobTask") -> None:
        """Take a new `job.status`."""
        ...

    def turn_done(self, turn: TurnDone) -> None:
        """Take a finished turn."""
        ...


@dataclass(frozen=True, kw_only=True)
class HostResources:
    """What all jobs of a host share.

    Attributes:
        program: what is run.
        userdata: what its `setup_fnc` left; each job gets a shallow copy.
        executor: runs inference runners; None when no plugin registered one.
        clock: where times of reports come from.
        sink: takes the events of this process.
        isolated: the process runs one job in its life.
        blocks: from when on a blocked event loop is reported; None reports none.
    """

    program: LoadedProgram
    userdata: Mapping[str, Any] = field(default_factory=dict)
    executor: InferenceExecutor | None = None
    clock: Clock = field(default_factory=SystemClock)
    sink: EventSink = field(default_factory=NullSink)
    isolated: bool = False
    blocks: BlockThresholds | None = None


class JobTask:
    """Runs one order on the running loop, from the entrypoint to the last shutdown callback.

    Phases: CONNECTED when the room is; RUNNING when the agent's audio track is published, or when
    the agent is connected and its entrypoint has returned without one, or 5 s after it connected.
    A job is a success however it ends, except when its entrypoint raised and ended it, or when it
    did not end in time after it was told to.
    """

    def __init__(
        self,
        order: JobOrder,
        shared: HostResources,
        listener: JobListener,
        *,
        user_arguments: Any | None = None,
    ) -> None:
        self.order = order
        self._clock = shared.clock
        self.status = JobStatus(
            job_id=order.job_id,
            generation=order.generation,
            phase=JobPhase.STARTING,
            changed_at=self._clock.wall(),
        )
        self.info = info_of(order, launched_at=self._clock.wall())
        self._program = shared.program
        self._listener: JobListener | None = listener
        self._scope = TaskScope(order.job_id)
        self._driver = JobDriver(
            shared.program.hooks,
            self.info,
            entrypoint=self._entrypoint,
            userdata=shared.userdata,
            executor=shared.executor,
            isolated=shared.isolated,
        )
        self._driver.set_user_arguments(user_arguments)
        self._turn_numbers = itertools.count(1)
        self._sessions: weakref.WeakSet[AgentSession[Any]] = weakref.WeakSet()
        self._job: JobContext | None = None
        self._error: Exception | None = None
        self._exit = ""
        self._life: asyncio.Task[JobEnd] | None = None
        self._over = asyncio.Event()
        self._on_ended: list[Callable[[], None]] = []
        self._silent_timer: asyncio.TimerHandle | None = None
        self._entrypoint_returned = False
        self._stopped_for: str | None = None
        self._overdue = False

    @property
    def ended(self) -> bool:
        """Whether the life cycle is over and cleaned up."""
        return self.status.phase is JobPhase.ENDED

    def on_ended(self, callback: Callable[[], None]) -> None:
        """Call back once the job has ended, at once if it has. On its loop."""
        if self.ended:
            callback()
        else:
            self._on_ended.append(callback)

    def forget(self) -> None:
        """Say nothing more to the listener: a newer generation speaks for this job."""
        self._listener = None

    def exited(self, error: BaseException) -> None:
        """End this job: something of it called for the end of its process (`sys.exit()`)."""
        if self.ended:
            return
        reason = describe(error)
        logger.warning(
            "the job called for the end of its process, it ends alone",
            extra={"job_id": self.order.job_id, "error": reason},
        )
        if not is_clean_exit(error):
            self._exit = self._exit or reason
        self._driver.shutdown(reason)

    async def run(self, context: Context) -> None:
        """Run the job in `context`, which becomes its own; a cancellation aborts the job.

        An abort cuts the life cycle short: the agent leaves its room, no shutdown callback runs.
        """
        self._scope.enter(context)
        life = asyncio.create_task(self._live(), name=f"job:{self.order.job_id}", context=context)
        self._life = life
        bound = asyncio.create_task(self._bound_callbacks(), name=f"bound:{self.order.job_id}")
        try:
            # Not awaited itself: a cancellation of this task must leave the clean-up to us.
            await asyncio.wait({life})
        finally:
            self._over.set()
            bound.cancel()
            await self._clean_up(life)
            self._end(life)
            for callback in self._on_ended:
                callback()

    async def stop(self, reason: str) -> None:
        """End the job as a stock worker does, and cut it short when it takes too long.

        Its shutdown has the bounds of a stock worker: until its callbacks run those of
        livekit-agents itself, from then on the program's `shutdown_process_timeout`. Idempotent.
        """
        if self._stopped_for is None:
            self._stopped_for = reason
            # The program gets stock's own word for it; ours is for the job's story.
            self._driver.shutdown()
        info = self._program.info
        try:
            async with asyncio.timeout(
                _ENTRYPOINT_GRACE_S + _SESSION_CLOSE_S + info.session_end_timeout_s
            ):
                await self._driver.wait_callbacks()
            async with asyncio.timeout(info.shutdown_timeout_s):
                await self._over.wait()
        except TimeoutError:
            self._cut_short()

    async def _bound_callbacks(self) -> None:
        """Cut the shutdown callbacks of a job short that ended by itself.

        A stock worker lets them run for ever, in a process that it does not count any more; here
        they hold a slot.
        """
        info = self._program.info
        await self._driver.wait_callbacks()
        try:
            async with asyncio.timeout(max(info.shutdown_timeout_s, info.session_end_timeout_s)):
                await self._over.wait()
        except TimeoutError:
            self._cut_short()

    def _cut_short(self) -> None:
        if self._life is not None and not self._life.done():
            logger.warning("job did not shut down in time", extra={"job_id": self.info.job.id})
            self._overdue = True
            self._life.cancel()

    async def _live(self) -> JobEnd:
        if (parent := context_from(self.order.traceparent)) is not None:
            # Never detached: the context ends with the job.
            otel_context.attach(parent)
        observe_sessions(self._on_session)
        return await self._driver.run()

    async def _entrypoint(self, job: JobContext) -> None:
        self._job = job
        job.room.on("connection_state_changed", self._on_connection_state)
        job.room.on("local_track_published", self._on_track_published)
        try:
            await self._program.hooks.entrypoint(job)
        except Exception as error:
            self._error = error
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            # Beyond here it would leave the event loop of all jobs.
            self.exited(error)
            return
        self._entrypoint_returned = True
        if self.status.phase is JobPhase.CONNECTED:
            self._advance(JobPhase.RUNNING)

    def _on_connection_state(self, state: int) -> None:
        if state != rtc.ConnectionState.CONN_CONNECTED:
            return
        if self.status.phase is JobPhase.STARTING and self.info.job.room.sid:
            # Held by the job's scope.
            asyncio.create_task(self._check_room(), name=f"room:{self.order.job_id}")  # noqa: RUF006
        self._advance(JobPhase.CONNECTED)
        if self._entrypoint_returned:
            self._advance(JobPhase.RUNNING)
        elif self._silent_timer is None:
            self._silent_timer = asyncio.get_running_loop().call_later(
                _SILENT_AGENT_S, self._advance, JobPhase.RUNNING
            )

    async def _check_room(self) -> None:
        if self._job is None or self.info.fake_job:
            return
        if await is_alone_elsewhere(self._job.room, self.info.job.room.sid):
            self._driver.shutdown(ROOM_DELETED)

    def _on_track_published(self, publication: rtc.LocalTrackPublication) -> None:
        if publication.kind == rtc.TrackKind.KIND_AUDIO:
            self._advance(JobPhase.RUNNING)

    def _on_session(self, job: JobContext, session: AgentSession[Any]) -> None:
        if session in self._sessions:  # `start` of a session that runs does nothing.
            return
        self._sessions.add(session)
        turns = TurnCollector(
            self.order.job_id,
            job.job.room.name,
            self._program.info.agent_name,
            numbers=self._turn_numbers,
        )
        session.on("conversation_item_added", lambda ev: self._turn(turns.item_added(ev.item)))
        session.on("function_tools_executed", lambda ev: turns.tools_executed(ev.function_calls))
        session.on(
            "agent_state_changed", lambda ev: self._turn(turns.agent_state_changed(ev.new_state))
        )
        session.on("close", lambda _: self._turn(turns.close()))

    def _turn(self, turn: TurnDone | None) -> None:
        if turn is not None and self._listener is not None:
            self._listener.turn_done(turn)

    def _advance(self, phase: JobPhase, **fields: str) -> None:
        if _PHASE_ORDER.index(phase) <= _PHASE_ORDER.index(self.status.phase):
            return
        self.status = self.status.model_copy(
            update={"phase": phase, "changed_at": self._clock.wall(), **fields}
        )
        if self._listener is not None:
            self._listener.job_changed(self)

    async def _clean_up(self, life: asyncio.Task[JobEnd]) -> None:
        """Take back what the job holds, the room first: a silent agent must not stay in it."""
        if self._silent_timer is not None:
            self._silent_timer.cancel()
        if not life.done():
            life.cancel()
            await asyncio.wait({life}, timeout=_CLEANUP_S)
        rooms = rooms_of(self._scope, self._job)
        for why in await leave_rooms(rooms, deadline_s=_CLEANUP_S):
            extra = {"job_id": self.order.job_id, "error": why}
            logger.error("job did not leave its room", extra=extra)
        left = await self._scope.cancel_all(deadline_s=_CLEANUP_S)
        if left:
            logger.warning(
                "tasks of an ended job ignore their cancellation",
                extra={"job_id": self.order.job_id, "tasks": left},
            )
        self._scope.close_threads()
        if self._job is not None:
            let_go(self._job)
        for room in rooms:
            let_go_of_events(room)
        let_go_of_streams(self._scope)
        self._job = None

    def _end(self, life: asyncio.Task[JobEnd]) -> None:
        failure = life.exception() if life.done() and not life.cancelled() else None
        if self._overdue:
            self._fail("it did not shut down in time and was cancelled")
        elif not life.done() or life.cancelled():
            self._fail("it was aborted")
        elif failure is not None and not is_clean_exit(failure):
            self._fail(describe(failure))
        elif failure is None and life.result().crashed and self._error is not None:
            self._fail(describe(self._error))
        elif self._exit:
            self._fail(self._exit)
        else:
            reason = life.result().reason if failure is None else describe(failure)
            if reason == STOPPED and self._stopped_for:
                reason = self._stopped_for
            self._advance(JobPhase.ENDED, outcome="success", reason=reason)
        # The traceback holds the program's frames, and with them everything of the call.
        self._error = None

    def _fail(self, reason: str) -> None:
        self._advance(JobPhase.ENDED, outcome="failed", reason=reason)
