"""An OpenAI-compatible service on this machine: a chat model, a voice and an ear."""

import json
from contextlib import asynccontextmanager

from aiohttp import web

VOICE_RATE = 24_000


class OpenAIService:
    """Answers what it is told to, and keeps which paths were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.heard = "hello from the cloud"
        self.words = "I am the cloud."
        self.speech_s = 0.5
        self.url = ""

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("chat")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "cloud"}
        for delta, reason in (({"role": "assistant", "content": self.words}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            await response.write(f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _speech(self, _: web.Request) -> web.Response:
        self.asked.append("speech")
        samples = int(self.speech_s * VOICE_RATE)
        return web.Response(body=b"\x10\x10" * samples, content_type="audio/pcm")

    async def _transcription(self, request: web.Request) -> web.Response:
        self.asked.append("transcription")
        await request.read()
        return web.json_response({"text": self.heard})


@asynccontextmanager
async def openai_service():
    """Run the service; its `url` is the base of its paths."""
    service = OpenAIService()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", service._chat)
    application.router.add_post("/v1/audio/speech", service._speech)
    application.router.add_post("/v1/audio/transcriptions", service._transcription)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield service
    finally:
        await runner.cleanup()
