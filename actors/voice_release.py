"""Takes an agent's voice out of its room as its session closes.

A caller hangs up, the session closes, and some 20 s later LiveKit closes the room. For an audio
track that is still published then, livekit.rtc's native part (livekit 1.1.21) keeps a thread and
its buffers for as long as the process lives, about half a MiB. A stock worker's process ends with
its call; a session host lives on.
"""

import asyncio
import logging
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession

logger = logging.getLogger(__name__)

_UNPUBLISH_S = 5.0


def release_voice(room: rtc.Room, session: AgentSession[Any]) -> None:
    """Unpublish what a session spoke with once it is closed, if its room is still open.

    That is every microphone track which came after the session's start; what the program had
    published before, and what it plays beside the session, stays.

    Args:
        room: the job's room, connected or not yet.
        session: a session that is about to start.
    """
    before = set(_voices(room))

    def closed(_: object) -> None:
        left = [sid for sid in _voices(room) if sid not in before]
        if left:
            # The job's task scope holds it, and cancels it with the job.
            asyncio.create_task(_unpublish(room, left), name="release-voice")  # noqa: RUF006

    session.on("close", closed)


def _voices(room: rtc.Room) -> list[str]:
    if not room.isconnected():
        return []
    return [
        publication.sid
        for publication in room.local_participant.track_publications.values()
        if publication.source == rtc.TrackSource.SOURCE_MICROPHONE
    ]


async def _unpublish(room: rtc.Room, sids: list[str]) -> None:
    for sid in sids:
        if not room.isconnected():
            return
        try:
            async with asyncio.timeout(_UNPUBLISH_S):
                await room.local_participant.unpublish_track(sid)
        except Exception as error:
            # The room may be leaving us at this very moment; then there is nothing to take back.
            logger.debug("a closed session's track stays", extra={"reason": str(error)})
