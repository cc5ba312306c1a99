"""Speech handles: say and generate_reply, interruptible or not, waited for and interrupted."""

import asyncio

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from livekit.agents.voice import SpeechHandle
from local_models import GRAMMAR, ScriptedLLM

import voxray

server = AgentServer()

NOTICE = "this notice has to be heard in full by everybody before the call goes on."
STORY = " ".join(f"this is sentence {number} of a very long story." for number in range(1, 12))


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"tell a story": STORY}),
        tts=voxray.TTS(),
        # Callers may interrupt from the first second on.
        aec_warmup_duration=None,
    )
    await session.start(agent=Agent(instructions="Tell stories."), room=ctx.room)

    tasks: set[asyncio.Task[None]] = set()

    async def tell(line: str) -> None:
        await ctx.room.local_participant.send_text(line, topic="handles")

    @ctx.room.local_participant.register_rpc_method("notice")
    async def notice(data: rtc.RpcInvocationData) -> str:
        handle: SpeechHandle = session.say(NOTICE, allow_interruptions=False)
        await handle.wait_for_playout()
        await tell(f"notice interrupted: {handle.interrupted}")
        return "done"

    @ctx.room.local_participant.register_rpc_method("story")
    async def story(data: rtc.RpcInvocationData) -> str:
        handle = session.generate_reply(instructions="Tell a story.")
        handle.add_done_callback(lambda h: tell_later(f"story interrupted: {h.interrupted}"))
        return handle.id

    @ctx.room.local_participant.register_rpc_method("stop")
    async def stop(data: rtc.RpcInvocationData) -> str:
        try:
            await session.interrupt()
        except RuntimeError:
            return "refused"
        return "stopped"

    def tell_later(line: str) -> None:
        task = asyncio.create_task(tell(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    cli.run_app(server)
