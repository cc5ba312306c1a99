"""Tools and instructions that change while the call runs: update_tools, update_instructions."""

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    ChatContext,
    JobContext,
    RunContext,
    cli,
    function_tool,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


async def _random_number(context: RunContext) -> str:
    return "the number is seven"


class MyAgent(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You are polite.")

    @function_tool()
    async def unlock(self, context: RunContext) -> str:
        """Unlock the other tools."""
        number = function_tool(
            _random_number, name="random_number", description="Get a random number"
        )
        await self.update_tools([*self.tools, number])
        await self.update_instructions("You are rude.")
        return "unlocked"

    @function_tool()
    async def lock(self, context: RunContext) -> str:
        """Lock the other tools."""
        await self.update_tools([tool for tool in self.tools if tool.id != "random_number"])
        return "locked"


def manners(chat_ctx: ChatContext) -> str:
    return next(m.text_content or "" for m in chat_ctx.messages() if m.role == "system")


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "give me a number": Call("random_number"),
                "open up": Call("unlock"),
                "close down": Call("lock"),
                "manners": manners,
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=MyAgent(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
