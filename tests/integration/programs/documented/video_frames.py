"""Video input: the program keeps the latest frame of the user's camera."""

import asyncio

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    cli,
    get_job_context,
)
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

    def _create_video_stream(self, track: rtc.Track) -> None:
        self._video_stream = rtc.VideoStream(track)

        async def read_stream() -> None:
            async for event in self._video_stream:
                if self._latest_frame is None:
                    room = get_job_context().room
                    size = f"{event.frame.width} by {event.frame.height}"
                    await room.local_participant.set_attributes({"camera": size})
                self._latest_frame = event.frame

        self._tasks.append(asyncio.create_task(read_stream()))


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(),
        tts=voxray.TTS(),
    )
    await session.start(agent=Watcher(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
