"""Sees every AgentSession that a job starts, without the program noticing."""

import functools
import logging
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

from livekit.agents import AgentSession, JobContext, get_job_context

from voxray.actors.contracts import TurnReport
from voxray.actors.voice_release import release_voice
from voxray.observability.events import TurnDone

logger = logging.getLogger(__name__)

SessionObserver: TypeAlias = Callable[[JobContext, AgentSession[Any]], None]

_started: weakref.WeakSet[AgentSession[Any]] = weakref.WeakSet()
_observer: ContextVar[SessionObserver | None] = ContextVar("voxray_session_observer", default=None)


def observe_sessions(observer: SessionObserver) -> None:
    """Call `observer` before each AgentSession of the current context starts.

    `AgentSession.start` is wrapped once a process; the observer belongs to the context, so that
    jobs on one loop stay apart.
    """
    _observer.set(observer)
    original = AgentSession.start
    if getattr(original, "voxray_observed", False):
        return

    @functools.wraps(original)
    async def start(self: AgentSession[Any], *args: Any, **kwargs: Any) -> Any:
        observer = _observer.get()
        job = get_job_context(required=False)
        if observer is not None and job is not None:
            try:
                observer(job, self)
                if self not in _started:  # `start` of a session that runs does nothing.
                    _started.add(self)
                    release_voice(job.room, self)
            except Exception:
                # What we measure must never cost the caller the call.
                logger.exception("session observer failed, the session starts without it")
        return await original(self, *args, **kwargs)

    start.voxray_observed = True  # type: ignore[attr-defined]  # a mark on our own function
    AgentSession.start = start  # type: ignore[method-assign]  # the one patch that we make


def turn_report(turn: TurnDone) -> TurnReport:
    """Return a turn as the dispatcher is told of it."""
    return TurnReport(
        job_id=turn.job_id,
        room=turn.room,
        agent=turn.agent,
        number=turn.number,
        stages=turn.stages,
        tools=turn.tools,
        interrupted=turn.interrupted,
        models=turn.models,
        at=turn.at,
    )
