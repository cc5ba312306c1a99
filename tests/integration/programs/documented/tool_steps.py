"""max_tool_steps: a model that goes on calling tools is told to answer."""

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    cli,
    function_tool,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


class Counter(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Count.")
        self.steps = 0

    @function_tool()
    async def next_number(self, context: RunContext) -> str:
        """Get the next number."""
        self.steps += 1
        return f"number {self.steps}"


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    agent = Counter()
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "how many": lambda chat_ctx: f"there were {agent.steps}.",
                "count": Call("next_number"),
                "number": Call("next_number"),
            }
        ),
        tts=voxray.TTS(),
        max_tool_steps=2,
    )
    await session.start(agent=agent, room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
