"""A join that was begun is seen through, whatever becomes of the job that began it.

The native runtime wants to hear, within 10 s of a join, that its room is listened to. It takes the
silence of a cancelled `Room.connect` for a broken process and ends it: with all of its calls.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from livekit import rtc

from voxray.actors.job_end import leave_room
from voxray.actors.rtc_compat import drop_events
from voxray.actors.rtc_leftovers import joining
from voxray.actors.task_scope import current_scope

logger = logging.getLogger(__name__)

_LEAVE_S = 5.0
_JOINING = "voxray_joining"


def see_joins_through() -> None:
    """Let every `rtc.Room.connect` of this process run to its end. Idempotent.

    One that is cancelled goes on by itself, at most until the runtime gives up (15 s, four times),
    and its agent leaves the room as soon as it is in.
    """
    original = rtc.Room.connect
    if getattr(original, "voxray_whole", False):
        return

    @functools.wraps(original)
    async def connect(room: rtc.Room, *arguments: Any, **options: Any) -> None:
        await _join(room, lambda: original(room, *arguments, **options))

    connect.voxray_whole = True  # type: ignore[attr-defined]  # a mark on our own function
    rtc.Room.connect = connect  # type: ignore[assignment, method-assign]


def let_go_of_events(room: rtc.Room) -> None:
    """Take back the events of a room that a job leaves behind, unless its join still needs them."""
    if not getattr(room, _JOINING, False):
        drop_events(room)


async def _join(room: rtc.Room, connect: Callable[[], Awaitable[None]]) -> None:
    async def join() -> None:
        with joining(room):
            await connect()

    # In the job's own context, where the room's events belong, but not among its tasks.
    task = asyncio.create_task(join(), name="join-room")
    if (scope := current_scope()) is not None:
        scope.spare(task)
    setattr(room, _JOINING, True)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            _abandoned.add(after := asyncio.create_task(_leave_after(room, task)))
            if scope is not None:
                scope.spare(after)
            after.add_done_callback(_abandoned.discard)
        raise
    finally:
        if task.done():
            setattr(room, _JOINING, False)


_abandoned: set[asyncio.Task[None]] = set()


async def _leave_after(room: rtc.Room, joined: asyncio.Task[None]) -> None:
    await asyncio.wait({joined})
    setattr(room, _JOINING, False)
    if joined.cancelled() or joined.exception() is not None:
        drop_events(room)
        return
    if room.isconnected() and (why := await leave_room(room, deadline_s=_LEAVE_S)):
        logger.error("an agent did not leave a room it joined too late", extra={"error": why})
    drop_events(room)
