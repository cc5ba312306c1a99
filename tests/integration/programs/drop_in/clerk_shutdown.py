"""Scenes about the end of a job: who asks for it, what runs then, and what is cut short."""

import asyncio

from livekit.agents import JobContext
from observed import note


class _Desk:
    def __init__(self, room: str) -> None:
        self._room = room

    async def close(self) -> None:
        note(self._room, "method")

    async def close_with(self, reason: str) -> None:
        note(self._room, "method with reason", reason)


def _callbacks(ctx: JobContext) -> None:
    room = ctx.job.room.name
    desk = _Desk(room)

    async def bare() -> None:
        note(room, "bare")

    ctx.add_shutdown_callback(bare)
    ctx.add_shutdown_callback(desk.close)
    ctx.add_shutdown_callback(desk.close_with)


async def shutdown(ctx: JobContext) -> None:
    """End with a reason."""
    _callbacks(ctx)
    await ctx.connect()
    ctx.shutdown("said all")
    ctx.shutdown("said more")
    note(ctx.job.room.name, "went on")


async def shutdown_plain(ctx: JobContext) -> None:
    """End without a reason, before the room is joined."""
    ctx.shutdown()


async def shutdown_empty(ctx: JobContext) -> None:
    """End with an empty reason."""
    await ctx.connect()
    ctx.shutdown(reason="")


async def delete_room(ctx: JobContext) -> None:
    """End the room for everybody."""
    await ctx.connect()
    await ctx.wait_for_participant()
    await ctx.delete_room()
    note(ctx.job.room.name, "deleted")


async def crash(ctx: JobContext) -> None:
    """Raise before the room is joined."""
    _callbacks(ctx)
    raise ValueError("bad day")


async def crash_late(ctx: JobContext) -> None:
    """Raise in the room."""
    await ctx.connect()
    raise ValueError("bad day")


async def leave(ctx: JobContext) -> None:
    """Disconnect from the room ourselves."""
    await ctx.connect()
    await ctx.room.disconnect()


async def callback_raises(ctx: JobContext) -> None:
    """One callback raises; the other still runs."""
    room = ctx.job.room.name

    async def bad() -> None:
        raise ValueError("bad callback")

    async def good() -> None:
        await asyncio.sleep(0)
        note(room, "good callback")

    ctx.add_shutdown_callback(bad)
    ctx.add_shutdown_callback(good)
    ctx.shutdown("over")


async def stuck_session_end(ctx: JobContext) -> None:
    """`on_session_end` never ends (see `at_session_end`)."""
    await ctx.connect()
    ctx.shutdown("over")


async def at_session_end(ctx: JobContext) -> None:
    """Hang or raise, where the scene wants it."""
    room = ctx.job.room.name
    if room == "stuck-session-end":
        await asyncio.Event().wait()
    if room == "session-end-raises":
        raise ValueError("bad end")


async def ends(ctx: JobContext) -> None:
    """End at once; `on_session_end` raises."""
    ctx.shutdown("over")


async def dispatch_deleted(ctx: JobContext) -> None:
    """Stay until the dispatch is deleted."""
    await ctx.connect()
    note(ctx.job.room.name, "ready")


async def works_on(ctx: JobContext) -> None:
    """Still at work as the worker drains; ends by itself when it is told to."""
    room = ctx.job.room.name
    await ctx.connect()

    @ctx.room.on("data_received")
    def _told(_: object) -> None:
        ctx.shutdown("finished in the drain")

    note(room, "ready")


PLAYS = {
    "shutdown": shutdown,
    "shutdown-plain": shutdown_plain,
    "shutdown-empty": shutdown_empty,
    "delete-room": delete_room,
    "crash": crash,
    "crash-late": crash_late,
    "leave": leave,
    "callback-raises": callback_raises,
    "stuck-session-end": stuck_session_end,
    "session-end-raises": ends,
    "dispatch-deleted": dispatch_deleted,
    "drain-outlived": dispatch_deleted,
    "drain-finished": works_on,
}
