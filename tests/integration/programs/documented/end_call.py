"""A tool that ends the call: it lets the goodbye play out, then deletes the room."""

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    cli,
    function_tool,
    get_job_context,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


class Assistant(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="End the call when asked to.")

    @function_tool()
    async def end_call(self, ctx: RunContext) -> None:
        """Called when the user wants to end the call."""
        await self.session.say("goodbye, and thank you.")
        await get_job_context().delete_room()


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"hang up": Call("end_call")}),
        tts=voxray.TTS(),
    )
    await session.start(agent=Assistant(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
