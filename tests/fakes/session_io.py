"""What an AgentSession needs around it when there is no room: ears, a mouth and a mind."""

import asyncio
from collections.abc import Callable
from typing import Any

from livekit import rtc
from livekit.agents import llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.utils import shortuuid
from livekit.agents.voice import io


class AudioFromTest(io.AudioInput):
    """Hears what the test says, as fast as it is said."""

    def __init__(self) -> None:
        super().__init__(label="test")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()
        self._given = False

    def say(self, frames: list[rtc.AudioFrame]) -> None:
        for frame in frames:
            self._frames.put_nowait(frame)

    async def taken(self) -> None:
        """Wait until the session has taken all that was said, and asks for more."""
        await self._frames.join()

    async def __anext__(self) -> rtc.AudioFrame:
        if self._given:
            self._given = False
            self._frames.task_done()
        frame = await self._frames.get()
        self._given = True
        return frame


class AudioToTest(io.AudioOutput):
    """Plays each segment in no time and keeps it."""

    def __init__(self) -> None:
        super().__init__(
            label="test", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=None
        )
        self._frames: list[rtc.AudioFrame] = []
        self._played: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._frames.append(frame)

    def flush(self) -> None:
        super().flush()
        self._finish(interrupted=False)

    def clear_buffer(self) -> None:
        self._finish(interrupted=True)

    async def heard(self) -> rtc.AudioFrame:
        """Wait for the next segment that was played."""
        return await self._played.get()

    def _finish(self, *, interrupted: bool) -> None:
        frames, self._frames = self._frames, []
        if frames:
            segment = rtc.combine_audio_frames(frames)
            self.on_playback_finished(playback_position=segment.duration, interrupted=interrupted)
            self._played.put_nowait(segment)


class RepeatingLLM(llm.LLM):
    """Answers each message with what `answer` makes of it."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[str] = []

    def chat(self, *, chat_ctx: llm.ChatContext, **options: Any) -> llm.LLMStream:
        return _Answer(
            self,
            chat_ctx=chat_ctx,
            tools=options.get("tools") or [],
            conn_options=options.get("conn_options") or DEFAULT_API_CONNECT_OPTIONS,
        )


class _Answer(llm.LLMStream):
    async def _run(self) -> None:
        mind = self._llm
        assert isinstance(mind, RepeatingLLM)
        (*_, last) = (item for item in self._chat_ctx.items if item.type == "message")
        asked = last.text_content or ""
        mind.asked.append(asked)
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id=shortuuid(),
                delta=llm.ChoiceDelta(role="assistant", content=mind.answer(asked)),
            )
        )
