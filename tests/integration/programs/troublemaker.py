"""A program whose jobs do what their metadata says: most make trouble, `echo` answers its caller.

Its `request_fnc` makes trouble too, where the metadata begins with `request_`.
"""

import asyncio
import contextlib
import gc
import json
import os
import sys
import threading
import time
from collections import Counter

from livekit import api, rtc
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    JobRequest,
    cli,
    function_tool,
    llm,
    room_io,
    utils,
)
from settled_memory import settled
from small_llm import ParrotLLM

import voxray

GRAMMAR = """#JSGF V1.0;
grammar words;
public <words> = (red | green | blue | yellow) (house | river | garden | window);
"""

# What waits for it waits until a job is told to release it.
RELEASED = threading.Event()
_MB = 1024 * 1024
COUNTED = ("JobContext", "Room", "AgentSession", "JobTask", "JobDriver", "TaskScope", "Troubled")

server = AgentServer(
    shutdown_process_timeout=2.0,
    session_end_timeout=1.0,
    job_memory_limit_mb=float(os.environ.get("TROUBLE_MEMORY_LIMIT_MB", "0")),
)


async def on_request(request: JobRequest) -> None:
    """Answer as the metadata says."""
    match request.job.metadata:
        case "request_exit":
            sys.exit(5)
        case "request_raise":
            raise LookupError("no such tenant")
        case "request_reject":
            await request.reject()
        case "request_terminate":
            await request.reject(terminate=True)
        case _:
            await request.accept(identity=f"agent-of-{request.room.name}")


class ToolCaller(llm.LLM):
    """Calls the tool `trouble`."""

    def chat(self, *, chat_ctx, tools=None, conn_options=DEFAULT_API_CONNECT_OPTIONS, **_):
        """Return the stream of the call."""
        return _Stream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Stream(llm.LLMStream):
    async def _run(self) -> None:
        items = self._chat_ctx.items
        answered = any(item.type == "function_call_output" for item in items)
        call = llm.FunctionToolCall(name="trouble", arguments="{}", call_id=utils.shortuuid())
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id=utils.shortuuid(),
                delta=llm.ChoiceDelta(
                    role="assistant",
                    content="that went wrong" if answered else None,
                    tool_calls=[] if answered else [call],
                ),
            )
        )


class Troubled(Agent):
    """An agent whose tool makes trouble."""

    def __init__(self, trouble) -> None:
        super().__init__(instructions="")
        self._trouble = trouble

    @function_tool
    async def trouble(self) -> str:
        """Make trouble."""
        self._trouble()
        return "done"


async def call_tool(ctx: JobContext, trouble) -> None:
    """Run a written session whose tool makes trouble."""
    session = AgentSession(llm=ToolCaller())
    written = room_io.RoomOptions(audio_input=False, audio_output=False)
    await session.start(Troubled(trouble), room=ctx.room, room_options=written)
    await session.generate_reply(user_input="make trouble")


async def publish(ctx: JobContext) -> None:
    """Publish an audio track that stays silent; the room tells of it by an event."""
    track = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(24000, 1))
    await ctx.room.local_participant.publish_track(track)


async def join_another(name: str) -> None:
    """Join a further room, and never leave it."""
    token = (
        api.AccessToken()
        .with_identity("guest")
        .with_grants(api.VideoGrants(room_join=True, room=name))
    )
    await rtc.Room().connect(os.environ["LIVEKIT_URL"], token.to_jwt())


def fail() -> None:
    """Raise what programs raise."""
    raise ValueError("trouble")


def interrupt() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def hold_the_loop(seconds: float) -> None:
    """Block, as a blocking client does."""
    time.sleep(seconds)


def live_objects() -> dict[str, int]:
    """Count what belongs to calls; job contexts by what their jobs do."""
    gc.collect()
    counts: Counter[str] = Counter()
    for each in gc.get_objects():
        if (kind := type(each).__name__) in COUNTED:
            counts[kind] += 1
            if kind == "JobContext":
                counts[f"of {each.job.metadata}"] += 1
    return dict(counts)


async def talk(ctx: JobContext) -> None:
    """Greet, and say what was said."""
    session = AgentSession(
        vad=voxray.VAD(), stt=voxray.STT(grammar=GRAMMAR), llm=ParrotLLM(), tts=voxray.TTS()
    )
    await session.start(agent=Agent(instructions=""), room=ctx.room)
    await session.generate_reply(instructions="greet the user")


async def answer_pings(ctx: JobContext) -> None:
    """Send every text that comes back, with what this process is."""
    tasks: set[asyncio.Task] = set()

    async def echo(reader: rtc.TextStreamReader, identity: str) -> None:
        text = await reader.read_all()
        about = {
            "text": text,
            "pid": os.getpid(),
            "executor": ctx.proc.executor_type.name,
            "tasks": len(asyncio.all_tasks()),
            "objects": live_objects() if text == "count" else {},
            "memory": settled() if text == "count" else {},
        }
        await ctx.room.local_participant.send_text(json.dumps(about), topic="pong")

    def on_ping(reader: rtc.TextStreamReader, identity: str) -> None:
        task = asyncio.create_task(echo(reader, identity))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    ctx.room.register_text_stream_handler("ping", on_ping)
    await ctx.connect()
    await publish(ctx)


async def for_ever() -> None:
    """Ignore every cancellation but the last few."""
    for _ in range(3):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def leak() -> None:
    """Leave tasks and threads behind."""
    for number in range(20):
        asyncio.get_running_loop().create_task(for_ever(), name=f"left-{number}")
        threading.Thread(target=RELEASED.wait, daemon=True).start()


@server.rtc_session(agent_name="trouble", on_request=on_request)
async def entrypoint(ctx: JobContext) -> None:  # noqa: C901, PLR0912, PLR0915 - one case each
    """Do what the metadata says."""
    what, _, number = ctx.job.metadata.partition(":")
    loop = asyncio.get_running_loop()
    if what == "echo":
        await answer_pings(ctx)
        return
    if what == "raise_unconnected":
        fail()
    if what == "exit_unconnected":
        sys.exit("not today")
    if what == "lose_room":
        # As if its caller hung up just now; LiveKit makes the room anew for whoever joins.
        await ctx.api.room.delete_room(api.DeleteRoomRequest(room=ctx.room.name))
    await ctx.connect()
    match what:
        case "raise":
            fail()
        case "exit":
            sys.exit(int(number))
        case "interrupt":
            interrupt()
        case "raise_in_task":
            await asyncio.gather(
                asyncio.create_task(asyncio.to_thread(fail)), return_exceptions=True
            )
            loop.create_task(asyncio.to_thread(fail))  # noqa: RUF006 - as careless programs do
            ctx.shutdown("done")
        case "raise_in_callback":
            loop.call_soon(fail)
            loop.call_soon(ctx.shutdown, "done")
        case "raise_in_event":
            ctx.room.on("local_track_published", lambda *_: fail())
            await publish(ctx)
            ctx.shutdown("done")
        case "raise_in_tool":
            await call_tool(ctx, fail)
            ctx.shutdown("done")
        case "exit_in_task":

            async def leave() -> None:
                sys.exit(int(number))

            loop.create_task(leave())  # noqa: RUF006 - as careless programs do
        case "interrupt_in_task":

            async def be_interrupted() -> None:
                interrupt()

            await asyncio.create_task(be_interrupted())
        case "exit_in_callback":
            loop.call_soon(sys.exit, int(number))
        case "exit_in_event":
            ctx.room.on("local_track_published", lambda *_: sys.exit(int(number)))
            await publish(ctx)
        case "exit_in_tool":
            await call_tool(ctx, lambda: sys.exit(int(number)))
        case "raise_in_shutdown" | "exit_in_shutdown" | "hang_in_shutdown" | "block_in_shutdown":

            async def last_words() -> None:
                if what == "raise_in_shutdown":
                    fail()
                elif what == "exit_in_shutdown":
                    sys.exit(4)
                elif what == "block_in_shutdown":
                    hold_the_loop(float(number))
                else:
                    await asyncio.Event().wait()

            ctx.add_shutdown_callback(last_words)
            ctx.shutdown("done")
        case "cancel_all":
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0)
        case "cancel_others":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        case "stop_loop":
            loop.stop()
            await asyncio.sleep(0)
            ctx.shutdown("done")
        case "leak":
            leak()
            ctx.shutdown("done")
        case "hog_threads":
            for _ in range(100):
                loop.run_in_executor(None, RELEASED.wait)
            ctx.shutdown("done")
        case "block":
            hold_the_loop(float(number))
            ctx.shutdown("done")
        case "block_in_callback":
            loop.call_soon(hold_the_loop, float(number))
            loop.call_soon(ctx.shutdown, "done")
        case "eat":
            eaten = ctx.proc.userdata["eaten"] = []
            for _ in range(int(number)):
                eaten.append(bytearray(os.urandom(_MB)))
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        case "release":
            RELEASED.set()
            ctx.shutdown("done")
        case "second_room":
            await join_another(f"{ctx.room.name}-other")
            ctx.shutdown("done")
        case "quit":
            ctx.shutdown("done")
        case "stay" | "lose_room":
            await publish(ctx)
        case "":
            await talk(ctx)
        case "session":
            await call_tool(ctx, lambda: None)
            ctx.shutdown("done")
        case _:
            raise NotImplementedError(ctx.job.metadata)


if __name__ == "__main__":
    cli.run_app(server)
