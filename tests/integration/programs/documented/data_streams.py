"""Text streams, byte streams and data packets, both ways."""

import asyncio

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from local_models import GRAMMAR, ScriptedLLM

import voxray

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(), stt=voxray.STT(grammar=GRAMMAR), llm=ScriptedLLM(), tts=voxray.TTS()
    )
    await session.start(agent=Agent(instructions="Read notes and files."), room=ctx.room)

    room = ctx.room
    active_tasks: set[asyncio.Task] = set()

    def spawn(coro) -> None:
        task = asyncio.create_task(coro)
        active_tasks.add(task)
        task.add_done_callback(active_tasks.discard)

    async def read_note(reader: rtc.TextStreamReader, identity: str) -> None:
        text = await reader.read_all()
        writer = await room.local_participant.stream_text(
            topic="notes-back", destination_identities=[identity], attributes={"of": identity}
        )
        for word in text.split():
            await writer.write(f"{word[::-1]} ")
        await writer.aclose()

    async def read_file(reader: rtc.ByteStreamReader, identity: str) -> None:
        data = b"".join([chunk async for chunk in reader])
        writer = await room.local_participant.stream_bytes(
            name=f"copy of {reader.info.name}", topic="files-back", total_size=len(data)
        )
        await writer.write(data[::-1])
        await writer.aclose()

    room.register_text_stream_handler("notes", lambda r, who: spawn(read_note(r, who)))
    room.register_byte_stream_handler("files", lambda r, who: spawn(read_file(r, who)))

    @room.on("data_received")
    def on_data(packet: rtc.DataPacket) -> None:
        spawn(
            room.local_participant.publish_data(packet.data.upper(), topic=f"{packet.topic}-back")
        )

    await room.local_participant.set_attributes({"streams": "ready"})


if __name__ == "__main__":
    cli.run_app(server)
