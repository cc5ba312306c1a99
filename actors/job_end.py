"""How the end of a job reads, and how its agent leaves the room whatever became of the job."""

import asyncio

from livekit import rtc

_REASON_LIMIT = 300

ROOM_DELETED = "its room was deleted before the agent came"


def describe(error: BaseException) -> str:
    """Return an error as the reason of an end."""
    return f"{type(error).__name__}: {error}"[:_REASON_LIMIT]


def is_clean_exit(error: BaseException) -> bool:
    """Return whether an error is `sys.exit()` without a fault."""
    return isinstance(error, SystemExit) and error.code in {None, 0}


async def is_alone_elsewhere(room: rtc.Room, sid: str) -> bool:
    """Return whether the agent sits alone in another room than its job's.

    When the job's room was deleted before the agent came, LiveKit makes a new one of that name for
    it, and nobody else ever comes. With a caller there the server had lost the room and its caller
    came back: then the job goes on.

    Args:
        room: a connected room.
        sid: of the job's room, as LiveKit offered it.
    """
    if await room.sid == sid:
        return False
    agent = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    return all(each.kind == agent for each in room.remote_participants.values())


async def leave_room(room: rtc.Room, *, deadline_s: float) -> str:
    """Make the agent leave its room; return why it did not, or an empty string.

    In a task of its own: the room's tasks may have been cancelled, or ended by `sys.exit()`, and
    whoever awaits them ends the same way.
    """
    leaving = asyncio.create_task(room.disconnect(), name="leave-room")
    await asyncio.wait({leaving}, timeout=deadline_s)
    if not leaving.done():
        leaving.cancel()
        return f"no answer within {deadline_s:g} s"
    failure = None if leaving.cancelled() else leaving.exception()
    # The server answers before the room's own tasks are awaited.
    return describe(failure) if isinstance(failure, Exception) else ""
