"""Jobs that a test dispatches by LiveKit's API, and a caller that talks with them in writing."""

import asyncio
import json
from types import TracebackType
from typing import Any

from livekit import api, rtc

from tests.running_app import RunningApp
from voxray.loadtest.livekit_server import LiveKitServer

AGENT = "trouble"


class Dispatches:
    """LiveKit's API, as the party that starts calls uses it."""

    def __init__(self, server: LiveKitServer) -> None:
        self._server = server
        self.livekit: api.LiveKitAPI

    async def __aenter__(self) -> "Dispatches":
        server = self._server
        self.livekit = api.LiveKitAPI(server.url, server.api_key, server.api_secret)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.livekit.aclose()

    async def start(self, room: str, metadata: str) -> str:
        """Dispatch a job into a room of its own, which comes to be; return the dispatch's id."""
        dispatch = await self.livekit.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name=AGENT, room=room, metadata=metadata)
        )
        return str(dispatch.id)

    async def delete(self, dispatch_id: str, room: str) -> None:
        """Take a dispatch back."""
        await self.livekit.agent_dispatch.delete_dispatch(dispatch_id, room)

    async def close_room(self, room: str) -> None:
        """End a room now."""
        await self.livekit.room.delete_room(api.DeleteRoomRequest(room=room))


async def job_of_room(app: RunningApp, room: str) -> str:
    """Return the id of the job that was offered for a room."""
    offered = await app.until_event("JobOffered", lambda event: event["room"] == room)
    return str(offered["job_id"])


async def end_of_room(app: RunningApp, room: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Return how the job of a room ended."""
    job_id = await job_of_room(app, room)
    return await app.until_event("JobEnded", lambda event: event["job_id"] == job_id, timeout_s)


class Neighbour:
    """A caller whose agent sends back what it writes."""

    def __init__(self, server: LiveKitServer, room: str) -> None:
        self._server = server
        self.name = room
        self._room = rtc.Room()
        self._pongs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._there = asyncio.Event()

    async def __aenter__(self) -> "Neighbour":
        token = (
            api.AccessToken(self._server.api_key, self._server.api_secret)
            .with_identity(f"caller-of-{self.name}")
            .with_grants(api.VideoGrants(room_join=True, room=self.name))
        )
        self._room.register_text_stream_handler("pong", self._on_pong)
        self._room.on("track_published", lambda *_: self._there.set())
        await self._room.connect(self._server.url, token.to_jwt())
        for participant in self._room.remote_participants.values():
            if participant.track_publications:
                self._there.set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._room.disconnect()

    async def greeted(self) -> None:
        """Wait until the agent is there and hears."""
        async with asyncio.timeout(60):
            await self._there.wait()

    async def ask(self, text: str) -> dict[str, Any]:
        """Write something; return the answer, which must be to this and nothing else."""
        await self._room.local_participant.send_text(text, topic="ping")
        async with asyncio.timeout(30):
            answer = await self._pongs.get()
        assert answer["text"] == text, (answer, text)
        assert self._pongs.empty()
        return answer

    def _on_pong(self, reader: rtc.TextStreamReader, _: str) -> None:
        task = asyncio.get_running_loop().create_task(self._read(reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, reader: rtc.TextStreamReader) -> None:
        self._pongs.put_nowait(json.loads(await reader.read_all()))
