"""An agent that joins and says nothing; it leaves rooms called `brief...` at once, on purpose."""

from livekit import rtc
from livekit.agents import AgentServer, JobContext

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    await ctx.connect()
    if ctx.room.name.startswith("brief"):
        ctx.shutdown("said enough")
        return
    # LiveKit tells the others of a participant that publishes nothing up to 3 s late.
    track = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(24_000, 1))
    await ctx.room.local_participant.publish_track(track)
