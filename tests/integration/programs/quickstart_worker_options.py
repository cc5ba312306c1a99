"""The same program as `quickstart.py`, in the older form: WorkerOptions under `__main__`."""

from livekit import agents
from livekit.agents import Agent, AgentSession
from small_llm import ParrotLLM

import voxray

GRAMMAR = """#JSGF V1.0;
grammar words;
public <words> = (red | green | blue | yellow) (house | river | garden | window);
"""


def prewarm(proc: agents.JobProcess):
    proc.userdata["vad"] = voxray.VAD.load()


async def entrypoint(ctx: agents.JobContext):
    await ctx.connect()
    session = AgentSession(
        vad=ctx.proc.userdata["vad"],
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ParrotLLM(),
        tts=voxray.TTS(),
    )
    await session.start(room=ctx.room, agent=Agent(instructions="Be helpful."))
    await session.generate_reply(instructions="Greet the user.")


if __name__ == "__main__":
    agents.cli.run_app(agents.WorkerOptions(entrypoint_fnc=entrypoint, prewarm_fnc=prewarm))
