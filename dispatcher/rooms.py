"""Questions to LiveKit about a room: whether it exists, and whether a participant is in it."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api
from livekit.api.room_service import RoomService
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.room import ListParticipantsRequest, ListRoomsRequest

from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.inputs import RoomAnswer
from voxray.dispatcher.tokens import room_token

logger = logging.getLogger(__name__)

DEADLINE_S = 3.0
"""How long a look may take; both questions together took 2 ms on loopback."""

NO_ANSWER = (aiohttp.ClientError, OSError, DecodeError, AttributeError)
"""What livekit-api raises when nothing answers, or something that is not LiveKit: bytes that are
no message, or (AttributeError) an error whose JSON is no object."""


@dataclass(frozen=True, kw_only=True)
class Presence:
    """What a look into a room showed.

    Attributes:
        joined_at: Unix seconds of the participant's join, if it is there.
        active: whether its media connection stands, if it is there.
        reason: why the answer is not known, if it is not.
    """

    answer: RoomAnswer
    joined_at: float | None = None
    active: bool = False
    reason: str = ""


class RoomDirectory:
    """Asks LiveKit's room service. Never raises: what can't be asked is UNKNOWN."""

    def __init__(
        self, settings: LiveKitSettings, *, proxy: str | None = None, deadline_s: float = DEADLINE_S
    ) -> None:
        """Prepare; connections are made when they are needed.

        Args:
            settings: address and keys of the server.
            proxy: address of an HTTP proxy, or None.
            deadline_s: after it the answer is UNKNOWN.
        """
        self._settings = settings
        self._proxy = proxy
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._old: list[aiohttp.ClientSession] = []
        self._closed = False

    async def look(self, room: str, identity: str) -> RoomAnswer:
        """Return whether a participant is in a room."""
        return (await self.presence(room, identity)).answer

    async def presence(self, room: str, identity: str) -> Presence:
        """Return whether a participant is in a room, since when, and how."""
        if self._closed:
            return Presence(answer=RoomAnswer.UNKNOWN, reason="we are closing")
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._ask(room, identity)
        except TimeoutError:
            reason = f"no answer within {self._deadline_s:g} s"
        except api.ServerError as error:
            # Its message may name the room; the code says enough.
            reason = f"livekit refused: {error.code} (http {error.status})"
        except NO_ANSWER as error:
            reason = f"livekit can't be reached: {type(error).__name__}"
        logger.warning("could not look into a room", extra={"reason": reason})
        return Presence(answer=RoomAnswer.UNKNOWN, reason=reason)

    def follow(self, proxy: str | None) -> None:
        """Ask by another proxy from now on."""
        if proxy != self._proxy:
            self._proxy = proxy
            self._let_go()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
        self._let_go()
        while self._old:
            await self._old.pop().close()

    def _let_go(self) -> None:
        """Use the present connections no more; a look that is under way still needs them."""
        if self._session is not None:
            self._old.append(self._session)
            self._session = None

    async def _ask(self, room: str, identity: str) -> Presence:
        service = self._client(room).room
        for participant in await _participants(service, room):
            gone = participant.state == ParticipantInfo.State.DISCONNECTED
            if participant.identity == identity and not gone:
                return Presence(
                    answer=RoomAnswer.PRESENT,
                    joined_at=participant.joined_at_ms / 1000 or float(participant.joined_at),
                    active=participant.state == ParticipantInfo.State.ACTIVE,
                )
        rooms = await service.list_rooms(ListRoomsRequest(names=[room]))
        found = any(each.name == room for each in rooms.rooms)
        return Presence(answer=RoomAnswer.ABSENT if found else RoomAnswer.GONE)

    def _client(self, room: str) -> api.LiveKitAPI:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                proxy=self._proxy, timeout=aiohttp.ClientTimeout(total=self._deadline_s)
            )
        token = room_token(self._settings, room)
        return api.LiveKitAPI.with_token(token, self._settings.url, session=self._session)


async def _participants(service: RoomService, room: str) -> Iterable[ParticipantInfo]:
    """Return who is in a room. An unknown room is an error to some servers, empty to others."""
    try:
        answer = await service.list_participants(ListParticipantsRequest(room=room))
    except api.ServerError as error:
        if error.code == api.ServerErrorCode.NOT_FOUND:
            return ()
        raise
    return answer.participants
