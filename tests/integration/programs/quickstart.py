"""A first program as the documentation of livekit-agents shows one, with voxray's plugins."""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, function_tool
from small_llm import ParrotLLM

import voxray

GRAMMAR = """#JSGF V1.0;
grammar words;
public <words> = (red | green | blue | yellow) (house | river | garden | window);
"""


@function_tool
async def lookup_weather(location: str) -> dict[str, object]:
    """Look the weather up."""
    return {"weather": "sunny", "location": location}


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ParrotLLM(),
        tts=voxray.TTS(),
    )
    agent = Agent(instructions="You are a friendly voice assistant.", tools=[lookup_weather])
    await session.start(agent=agent, room=ctx.room)
    await session.generate_reply(instructions="greet the user")


if __name__ == "__main__":
    cli.run_app(server)
