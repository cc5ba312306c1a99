"""BackgroundAudioPlayer: keyboard sounds while a tool works."""

import asyncio

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    AudioConfig,
    BackgroundAudioPlayer,
    BuiltinAudioClip,
    JobContext,
    RunContext,
    cli,
    function_tool,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


class FakeWebSearchAgent(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Search the web.")

    @function_tool
    async def search_web(self, context: RunContext, query: str) -> str:
        """Search the web for information based on the given query."""
        await asyncio.sleep(3)
        return f"nothing found about {query}"


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"search the web": Call("search_web", {"query": "trains"})}),
        tts=voxray.TTS(),
    )
    await session.start(agent=FakeWebSearchAgent(), room=ctx.room)

    background_audio = BackgroundAudioPlayer(
        thinking_sound=[
            AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING, volume=0.8),
            AudioConfig(BuiltinAudioClip.KEYBOARD_TYPING2, volume=0.7),
        ],
    )
    await background_audio.start(room=ctx.room, agent_session=session)


if __name__ == "__main__":
    cli.run_app(server)
