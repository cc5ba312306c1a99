"""A silent user: user_away_timeout, user_state_changed, a question, and the end of the call."""

import asyncio

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    UserStateChangedEvent,
    cli,
)
from local_models import GRAMMAR, ScriptedLLM

import voxray

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"check if the user": "are you still there?"}),
        tts=voxray.TTS(),
        user_away_timeout=1.5,
    )
    inactivity_task: asyncio.Task | None = None

    async def user_presence_task() -> None:
        for _ in range(2):
            await session.generate_reply(
                instructions="The user has been inactive. Politely check if the user is present."
            )
            await asyncio.sleep(1.0)
        ctx.shutdown(reason="the user is away")

    @session.on("user_state_changed")
    def _user_state_changed(ev: UserStateChangedEvent) -> None:
        nonlocal inactivity_task
        if ev.new_state == "away":
            inactivity_task = asyncio.create_task(user_presence_task())
        elif inactivity_task is not None:
            inactivity_task.cancel()

    await session.start(agent=Agent(instructions="Be kind."), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
