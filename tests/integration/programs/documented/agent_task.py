"""An AgentTask: ask for consent before the conversation, and take its typed result."""

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    AgentTask,
    JobContext,
    cli,
    function_tool,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


class CollectConsent(AgentTask[bool]):
    def __init__(self, chat_ctx=None) -> None:
        super().__init__(instructions="Ask for recording consent.", chat_ctx=chat_ctx)

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Briefly ask for permission to record.")

    @function_tool
    async def consent_given(self) -> None:
        """Use this when the user gives consent to record."""
        self.complete(True)

    @function_tool
    async def consent_denied(self) -> None:
        """Use this when the user denies consent to record."""
        self.complete(False)


class CustomerServiceAgent(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You are a friendly customer service representative.")

    async def on_enter(self) -> None:
        if await CollectConsent(chat_ctx=self.chat_ctx):
            await self.session.generate_reply(instructions="Offer your assistance.")
        else:
            await self.session.generate_reply(instructions="Say that you end the call.")


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "ask for permission": "may i record this call?",
                "yes you may": Call("consent_given"),
                "offer your assistance": "thank you, how can i help?",
                "end the call": "then i end the call.",
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=CustomerServiceAgent(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
