"""An async tool: it tells its progress while it works, and the conversation goes on."""

import asyncio

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


class TravelAgent(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Book flights.")

    @function_tool()
    async def book_flight(self, context: RunContext, city: str) -> str:
        """Book a flight to a city."""
        await context.update(f"looking for flights to {city}")
        await asyncio.sleep(4)
        return f"booked seat 12 to {city}"


def last_result(chat_ctx: ChatContext) -> str:
    outputs = [item.output for item in chat_ctx.items if item.type == "function_call_output"]
    return f"it is done: {outputs[-1]}."


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "looking for flights": "i am looking.",
                "new results arrived": last_result,
                "fly": Call("book_flight", {"city": "rome"}),
                "time": "it is noon.",
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=TravelAgent(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
