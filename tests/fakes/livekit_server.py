"""A LiveKit server's worker endpoint that does what a test tells it, connection by connection."""

import asyncio
from collections import deque
from typing import Self

from aiohttp import WSMsgType, web
from livekit.protocol import agent

_PATIENCE_S = 20.0


class FakeLiveKit:
    """Listens on loopback. Each websocket waits for `accept` and then for orders."""

    def __init__(self, *, answers_websocket_pings: bool = True) -> None:
        self._autoping = answers_websocket_pings
        self._statuses: deque[int] = deque()
        self._connections: asyncio.Queue[FakeConnection] = asyncio.Queue()
        self._open: list[FakeConnection] = []
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.tokens: list[str] = []
        self.paths: list[str] = []
        self.queries: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def refuse(self, *statuses: int) -> None:
        """Answer the next handshakes with these statuses."""
        self._statuses.extend(statuses)

    async def accept(self) -> "FakeConnection":
        """Return the next websocket."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self._connections.get()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._open:
            connection.drop()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        self.paths.append(request.path)
        self.queries.append(dict(request.query))
        if self._statuses:
            return web.Response(status=self._statuses.popleft())
        ws = web.WebSocketResponse(autoping=self._autoping)
        await ws.prepare(request)
        connection = FakeConnection(request, ws)
        self._open.append(connection)
        self._connections.put_nowait(connection)
        await connection.over.wait()
        return ws


class FakeConnection:
    """The server's end of one websocket."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self._request = request
        self._ws = ws
        self.over = asyncio.Event()

    async def register(self, worker_id: str = "AW_1") -> agent.RegisterWorkerRequest:
        """Take the registration and accept it."""
        message = await self.receive("register")
        await self.send(agent.ServerMessage(register={"worker_id": worker_id}))
        return message.register

    async def offer(self, job_id: str, room: str = "room") -> None:
        """Offer a job."""
        job = agent.Job(id=job_id, room={"name": room})
        await self.send(agent.ServerMessage(availability={"job": job}))

    async def send(self, message: agent.ServerMessage) -> None:
        await self.send_bytes(message.SerializeToString())

    async def send_bytes(self, data: bytes) -> None:
        await self._ws.send_bytes(data)

    async def send_text(self, text: str) -> None:
        await self._ws.send_str(text)

    async def receive(self, kind: str) -> agent.WorkerMessage:
        """Return the next message of a kind; others are skipped."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                message = agent.WorkerMessage.FromString(await self._ws.receive_bytes())
                if message.WhichOneof("message") == kind:
                    return message

    async def receive_all(self) -> list[agent.WorkerMessage]:
        """Return everything up to the other side's close."""
        messages = []
        async with asyncio.timeout(_PATIENCE_S):
            while (got := await self._ws.receive()).type is WSMsgType.BINARY:
                messages.append(agent.WorkerMessage.FromString(got.data))
        self.over.set()
        return messages

    async def pong(self, ping: agent.WorkerPing) -> None:
        """Answer a ping."""
        await self.send(agent.ServerMessage(pong={"last_timestamp": ping.timestamp}))

    async def half_a_frame(self) -> None:
        """Send a frame that promises 16 KiB and brings one byte."""
        transport = self._request.transport
        assert transport is not None
        transport.write(b"\x82\x7e\x40\x00x")

    async def ping(self, data: bytes) -> None:
        """Send a ping of the websocket itself. Of a server that does not answer such pings."""
        await self._ws.ping(data)

    async def pong_of_ping(self) -> bytes:
        """Return what the next pong of the websocket holds."""
        async with asyncio.timeout(_PATIENCE_S):
            while (got := await self._ws.receive()).type is not WSMsgType.PONG:
                pass
        return bytes(got.data)

    async def close(self, code: int = 1000) -> None:
        """Close in order."""
        await self._ws.close(code=code)
        self.over.set()

    def drop(self) -> None:
        """Cut the connection, as a crash would."""
        if self._request.transport is not None:
            self._request.transport.abort()
        self.over.set()
