"""Vision: the latest frame of the user's camera goes into the chat context of each turn."""

import asyncio

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    ChatContext,
    ChatMessage,
    JobContext,
    TurnHandlingOptions,
    cli,
    get_job_context,
)
from livekit.agents.llm import ImageContent
from local_models import GRAMMAR, ScriptedLLM

import voxray


class Watcher(Agent):
    def __init__(self) -> None:
        self._latest_frame: rtc.VideoFrame | None = None
        self._video_stream: rtc.VideoStream | None = None
        self._tasks: list[asyncio.Task] = []
        super().__init__(instructions="Tell what you see.")

    async def on_enter(self) -> None:
        room = get_job_context().room
        for participant in room.remote_participants.values():
            for publication in participant.track_publications.values():
                if publication.track and publication.track.kind == rtc.TrackKind.KIND_VIDEO:
                    self._create_video_stream(publication.track)

        @room.on("track_subscribed")
        def on_track_subscribed(track: rtc.Track, *_) -> None:
            if track.kind == rtc.TrackKind.KIND_VIDEO:
                self._create_video_stream(track)

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: ChatMessage) -> None:
        if self._latest_frame:
            new_message.content.append(ImageContent(image=self._latest_frame))
            self._latest_frame = None

    def _create_video_stream(self, track: rtc.Track) -> None:
        self._video_stream = rtc.VideoStream(track)

        async def read_stream() -> None:
            async for event in self._video_stream:
                if self._latest_frame is None:
                    room = get_job_context().room
                    await room.local_participant.set_attributes({"camera": "seen"})
                self._latest_frame = event.frame

        self._tasks.append(asyncio.create_task(read_stream()))


def what_is_seen(chat_ctx: ChatContext) -> str:
    images = [
        part
        for message in chat_ctx.messages()
        for part in message.content
        if isinstance(part, ImageContent)
    ]
    if not images:
        return "i see nothing."
    frame = images[-1].image.convert(rtc.VideoBufferType.RGBA)
    red, green, blue = frame.data[0], frame.data[1], frame.data[2]
    color = "red" if red > 150 > green else "blue" if blue > 150 > green else "another color"
    return f"i see {color} of {frame.width} by {frame.height}."


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"window": what_is_seen}),
        # A reply that was begun before the turn was complete would not have the image.
        turn_handling=TurnHandlingOptions(preemptive_generation={"enabled": False}),
        tts=voxray.TTS(),
    )
    await session.start(agent=Watcher(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
