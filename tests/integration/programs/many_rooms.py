"""A program for the tests of the session host: the job's metadata says what its agent does."""

import asyncio
import contextvars
import logging
import threading

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    JobProcess,
    JobRequest,
    llm,
    room_io,
)

logger = logging.getLogger("many_rooms")

# What happened, for the test that runs in the same process.
setups: list[bool] = []
shutdowns: list[tuple[str, str]] = []
seen: dict[str, list[str]] = {}
warm_dicts: list[dict] = []

mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="never set")
mark.set("set by the module")

server = AgentServer(shutdown_process_timeout=1.0)


def prewarm(proc: JobProcess) -> None:
    """Count the runs, and note whether this is the main thread."""
    setups.append(threading.current_thread() is threading.main_thread())
    proc.userdata["model"] = object()


server.setup_fnc = prewarm


async def on_request(request: JobRequest) -> None:
    """Answer as the job's metadata says."""
    match request.job.metadata:
        case "reject":
            await request.reject(terminate=False)
        case "raise":
            raise LookupError("no such tenant")
        case "silent":
            return
        case "slow":
            await asyncio.Event().wait()
        case _:
            await request.accept(name="Agent", identity=f"agent-of-{request.room.name}")


class EchoLLM(llm.LLM):
    """Answers with what the user said."""

    def chat(self, *, chat_ctx, tools=None, conn_options=None, **_) -> llm.LLMStream:
        """Return the stream of the answer."""
        return EchoStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class EchoStream(llm.LLMStream):
    """One answer."""

    async def _run(self) -> None:
        words = next(item for item in reversed(self.chat_ctx.items) if item.type == "message")
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id="echo", delta=llm.ChoiceDelta(role="assistant", content=words.text_content)
            )
        )


async def publish(ctx: JobContext) -> None:
    """Publish an audio track that stays silent."""
    source = rtc.AudioSource(24000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    await ctx.room.local_participant.publish_track(track)


@server.rtc_session(on_request=on_request)
async def entrypoint(ctx: JobContext) -> None:
    """Do what the metadata says."""
    room = ctx.job.room.name
    ctx.log_context_fields = {"of_room": room}
    warm_dicts.append(ctx.proc.userdata)
    inherited = mark.get()
    mark.set(room)

    async def bye(reason: str) -> None:
        shutdowns.append((room, reason))

    ctx.add_shutdown_callback(bye)
    match ctx.job.metadata:
        case "crash":
            raise ValueError(f"bad room {room}")
        case "listen":
            await ctx.connect()
        case "leak":
            # Nobody keeps it, as in many programs.
            asyncio.create_task(asyncio.Event().wait(), name=f"leak-{room}")  # noqa: RUF006 - as said
            await ctx.connect()
            await publish(ctx)
        case "stuck":
            ctx.add_shutdown_callback(stay)
            await ctx.connect()
            await publish(ctx)
        case "session":
            session = AgentSession(llm=EchoLLM())
            written = room_io.RoomOptions(audio_input=False, audio_output=False)
            await session.start(Agent(instructions="Echo."), room=ctx.room, room_options=written)
            await session.say("welcome")
            await session.generate_reply(user_input="hello")
            ctx.shutdown("said enough")
        case _:
            await ctx.connect()
            await publish(ctx)
            # Everybody waits here in turn, so that contexts that leak would be seen to.
            for _ in range(5):
                await asyncio.sleep(0)
                seen.setdefault(room, []).append(f"{inherited}|{mark.get()}")
                logger.info("in room %s", room)


async def stay() -> None:
    """Never return."""
    await asyncio.Event().wait()
