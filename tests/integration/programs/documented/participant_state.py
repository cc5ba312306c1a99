"""Attributes and metadata of participants, events of the room, wait_for_participant."""

import asyncio

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from local_models import GRAMMAR, ScriptedLLM

import voxray

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    await ctx.connect()
    participant = await ctx.wait_for_participant()
    tasks: set[asyncio.Task] = set()

    def spawn(coro) -> None:
        task = asyncio.create_task(coro)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @ctx.room.on("participant_attributes_changed")
    def on_attributes_changed(changed: dict[str, str], who: rtc.Participant) -> None:
        if language := changed.get("language"):
            spawn(ctx.room.local_participant.set_attributes({"speaks": language}))

    @ctx.room.on("participant_connected")
    def on_connected(who: rtc.RemoteParticipant) -> None:
        spawn(ctx.room.local_participant.set_metadata(f"{who.identity} came"))

    @ctx.room.on("participant_disconnected")
    def on_disconnected(who: rtc.RemoteParticipant) -> None:
        spawn(ctx.room.local_participant.set_metadata(f"{who.identity} left"))

    @ctx.room.on("track_published")
    def on_published(publication: rtc.RemoteTrackPublication, who: rtc.RemoteParticipant) -> None:
        spawn(ctx.room.local_participant.set_attributes({"published": who.identity}))

    session = AgentSession(
        vad=voxray.VAD.load(), stt=voxray.STT(grammar=GRAMMAR), llm=ScriptedLLM(), tts=voxray.TTS()
    )
    await session.start(agent=Agent(instructions="Greet by name."), room=ctx.room)
    await session.say(f"hello {participant.attributes['name']}, {participant.metadata}.")


if __name__ == "__main__":
    cli.run_app(server)
