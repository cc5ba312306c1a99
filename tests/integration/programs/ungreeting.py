"""Like `quickstart.py`, but it waits for the caller to speak first."""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from small_llm import ParrotLLM

import voxray

GRAMMAR = """#JSGF V1.0;
grammar words;
public <words> = (red | green | blue | yellow) (house | river | garden | window);
"""

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD(), stt=voxray.STT(grammar=GRAMMAR), llm=ParrotLLM(), tts=voxray.TTS()
    )
    await session.start(agent=Agent(instructions=""), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
