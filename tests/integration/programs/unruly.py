"""Like `quickstart.py`, but its entrypoint raises in rooms whose name begins with `bad`."""

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
    if ctx.room.name.startswith("bad"):
        raise RuntimeError("this room is not to my taste")
    session = AgentSession(
        vad=voxray.VAD(), stt=voxray.STT(grammar=GRAMMAR), llm=ParrotLLM(), tts=voxray.TTS()
    )
    await session.start(agent=Agent(instructions=""), room=ctx.room)
    await session.generate_reply(instructions="greet the user")


if __name__ == "__main__":
    cli.run_app(server)
