"""What a job leaves of livekit.rtc when it ends: rooms that it is still in, events it still takes.

A stock worker's process ends with its job, and everything of livekit.rtc with it. Here a stream
whose task was cancelled would go on gathering the audio of every room of the process, and a second
room that the program opened would keep its agent.
"""

import asyncio
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from livekit import rtc
from livekit.agents import JobContext

from voxray.actors import rtc_compat
from voxray.actors.job_end import leave_room
from voxray.actors.task_scope import TaskScope, current_scope

_Owned = weakref.WeakKeyDictionary[TaskScope, weakref.WeakSet[Any]]

# By scope. Weak, so that what the program closes itself is gone from here at once.
_queues: _Owned = weakref.WeakKeyDictionary()
_rooms: _Owned = weakref.WeakKeyDictionary()
_joining: ContextVar[list[bool] | None] = ContextVar("voxray_joining_room", default=None)


def follow_rtc() -> None:
    """Note from now on which job takes events of livekit.rtc. Idempotent."""
    rtc_compat.observe_subscriptions(_note_queue)


@contextmanager
def joining(room: rtc.Room) -> Iterator[None]:
    """Note a room that the running job joins; what the join itself hears is the room's own.

    Everything that the room calls later inherits this context: by then the mark is taken back.
    """
    _note(_rooms, room)
    mark = [True]
    token = _joining.set(mark)
    try:
        yield
    finally:
        mark[0] = False
        _joining.reset(token)


def rooms_of(scope: TaskScope, job: JobContext | None) -> set[rtc.Room]:
    """Return the rooms that a job joined and that are still there, left or not, with its own."""
    return {*_rooms.get(scope, ()), *([job.room] if job is not None else [])}


async def leave_rooms(rooms: Iterable[rtc.Room], *, deadline_s: float) -> list[str]:
    """Leave those of the rooms that are not left yet; return why, for each that could not be."""
    connected = [room for room in rooms if room.isconnected()]
    reasons = await asyncio.gather(*(leave_room(room, deadline_s=deadline_s) for room in connected))
    return [reason for reason in reasons if reason]


def let_go_of_streams(scope: TaskScope) -> None:
    """Take back what streams of an ended job still listen to. Its tasks must be over."""
    for queue in list(_queues.pop(scope, ())):
        rtc_compat.unsubscribe(queue)


def _note_queue(queue: object) -> None:
    mark = _joining.get()
    if mark is None or not mark[0]:
        _note(_queues, queue)


def _note(owned: _Owned, each: object) -> None:
    if (scope := current_scope()) is not None:
        owned.setdefault(scope, weakref.WeakSet()).add(each)
