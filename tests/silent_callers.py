"""Callers who join a room and say nothing, for tests about who gets an agent and when."""

import asyncio
import time

from livekit import api, rtc
from livekit.protocol.models import ParticipantInfo

from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.livekit_server import LiveKitServer

_PATIENCE_S = 60.0


def access_to(server: LiveKitServer, agent_name: str = "") -> LiveKitAccess:
    return LiveKitAccess(
        url=server.url,
        api_key=server.api_key,
        api_secret=server.api_secret,
        agent_name=agent_name,
    )


class SilentCaller:
    """One caller; knows which agents came into its room, and when."""

    def __init__(self, access: LiveKitAccess, room_name: str, identity: str = "caller") -> None:
        self._access = access
        self.room_name = room_name
        self.identity = identity
        self._room = rtc.Room()
        self._came = asyncio.Event()
        self._changed = asyncio.Event()
        self.agents: list[str] = []
        self.attributes: list[dict[str, str]] = []
        self.agent_at: float | None = None

    async def join(self) -> None:
        self._room.on("participant_connected", self._connected)
        token = self._access.caller_token(self.room_name, self.identity)
        await self._room.connect(self._access.url, token)
        for participant in self._room.remote_participants.values():
            self._connected(participant)

    async def publish(self) -> None:
        """Publish an audio track, which stays silent."""
        track = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(24_000, 1))
        await self._room.local_participant.publish_track(track)

    async def until_attended(self, *identities: str) -> None:
        """Wait until an agent has come for each of these participants."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while not set(identities) <= set(self.attended):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{identities} wait in vain: {self.attended}") from None

    @property
    def attended(self) -> list[str]:
        """Whom the agents that came say that they attend to."""
        return [each["attends"] for each in self.attributes if "attends" in each]

    async def until_agent(self, timeout_s: float = _PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"no agent came to {self.room_name}") from None

    async def aclose(self) -> None:
        await self._room.disconnect()

    def _connected(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self.agents.append(participant.identity)
            self.attributes.append(dict(participant.attributes))
            self.agent_at = self.agent_at or time.monotonic()
            self._came.set()
            self._changed.set()


class Rooms:
    """What LiveKit says of rooms, and what a test does to them."""

    def __init__(self, server: LiveKitServer) -> None:
        self._livekit = api.LiveKitAPI(server.url, server.api_key, server.api_secret)

    async def agents_in(self, room: str) -> list[str]:
        """Return the identities of the agents in a room."""
        request = api.ListParticipantsRequest(room=room)
        listed = await self._livekit.room.list_participants(request)
        kind = ParticipantInfo.Kind.AGENT
        return [each.identity for each in listed.participants if each.kind == kind]

    async def dispatches(self, room: str) -> list[api.AgentDispatch]:
        """Return the dispatches of a room."""
        return await self._livekit.agent_dispatch.list_dispatch(room)

    async def dispatch(self, room: str, agent_name: str, metadata: str, **attributes: str) -> str:
        """Dispatch an agent by name, as a user's backend does."""
        request = api.CreateAgentDispatchRequest(
            room=room, agent_name=agent_name, metadata=metadata, attributes=attributes
        )
        return (await self._livekit.agent_dispatch.create_dispatch(request)).id

    async def delete_dispatch(self, room: str, dispatch_id: str) -> None:
        await self._livekit.agent_dispatch.delete_dispatch(dispatch_id, room)

    async def close(self, room: str) -> None:
        """End a room now; LiveKit itself waits 20 s for its caller to come back."""
        await self._livekit.room.delete_room(api.DeleteRoomRequest(room=room))

    async def close_if_open(self, room: str) -> None:
        """End a room that may have ended already."""
        listed = await self._livekit.room.list_rooms(api.ListRoomsRequest(names=[room]))
        if listed.rooms:
            await self.close(room)

    async def aclose(self) -> None:
        await self._livekit.aclose()
