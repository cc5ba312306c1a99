"""The online speech service of Edge, on a real websocket of this machine.

It answers as the service does: headers and MP3 in binary messages, the end in a text message. How
it misbehaves is set per voice.
"""

import asyncio
import re
from contextlib import asynccontextmanager

import av
import numpy as np
from aiohttp import web

SAMPLE_RATE = 24_000


def mp3(seconds: float, frequency: float = 440.0) -> bytes:
    """Return a tone as the service would: 48 kbit/s, mono."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    samples = (8000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16)
    encoder = av.CodecContext.create("libmp3lame", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE, "mono", "s16p"
    encoder.bit_rate = 48_000
    packets = []
    for start in range(0, len(samples), 1152):
        frame = av.AudioFrame.from_ndarray(
            samples[start : start + 1152][np.newaxis], "s16p", "mono"
        )
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return b"".join(bytes(packet) for packet in packets)


class EdgeService:
    """Keeps the requests; `hold` makes it wait in the middle of its audio."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.audio = mp3(1.0)
        self.open = 0
        self.most_open = 0
        self.hold: asyncio.Event | None = None
        self.held = asyncio.Event()
        self.ended = asyncio.Event()
        self.answer = "audio"

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        if self.answer == "refuse":
            raise web.HTTPServiceUnavailable
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._answer(websocket)
        finally:
            self.open -= 1
            self.ended.set()
        return websocket

    async def _answer(self, websocket: web.WebSocketResponse) -> None:
        config, ssml = await websocket.receive_str(), await websocket.receive_str()
        assert "Path:speech.config" in config
        self.requests.append(ssml.partition("\r\n\r\n")[2])
        await websocket.send_str("X-RequestId:1\r\nPath:turn.start\r\n\r\n{}")
        middle = len(self.audio) // 2
        if self.answer == "audio":
            await self._send(websocket, self.audio[:middle])
        elif self.answer == "noise":
            await self._send(websocket, b"this is no MP3 at all" * 100)
        if self.hold is not None:
            self.held.set()
            waiting = asyncio.ensure_future(self.hold.wait())
            closing = asyncio.ensure_future(websocket.receive())
            await asyncio.wait((waiting, closing), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            closing.cancel()
            await asyncio.wait((waiting, closing))
        if self.answer == "break":
            await websocket.close()
            return
        if self.answer == "audio" and not websocket.closed:
            await self._send(websocket, self.audio[middle:])
        if not websocket.closed:
            await websocket.send_str("X-RequestId:1\r\nPath:turn.end\r\n\r\n{}")

    async def _send(self, websocket: web.WebSocketResponse, audio: bytes) -> None:
        for start in range(0, len(audio), 720):
            headers = b"X-RequestId:1\r\nContent-Type:audio/mpeg\r\nPath:audio\r\n"
            length = len(headers).to_bytes(2, "big")
            await websocket.send_bytes(length + headers + audio[start : start + 720])


def spoken(ssml: str) -> str:
    """Return the text of a request."""
    return re.sub("<[^>]*>", "", ssml)


@asynccontextmanager
async def edge_service(monkeypatch):
    """Run the service, and lead the package there."""
    service = EdgeService()
    application = web.Application()
    application.router.add_get("/edge/v1", service._serve)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    lead(monkeypatch, f"ws://127.0.0.1:{port}")
    try:
        yield service
    finally:
        await runner.cleanup()


def lead(monkeypatch, address: str) -> None:
    """Have the package dial another address, and no proxy."""
    monkeypatch.setattr("edge_tts.communicate.WSS_URL", f"{address}/edge/v1?TrustedClientToken=x")
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
