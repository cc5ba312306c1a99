"""Agents and handoffs: a tool returns the next agent, which has a voice and a history."""

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


class Greeter(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Find out what the user needs.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Greet the user.")

    @function_tool()
    async def transfer_to_billing(self, context: RunContext):
        """Transfer the user to a billing specialist."""
        return Billing(chat_ctx=self.chat_ctx), "transferring you to billing"


class Billing(Agent):
    def __init__(self, chat_ctx: ChatContext) -> None:
        super().__init__(
            instructions="You know about bills.",
            chat_ctx=chat_ctx,
            tts=voxray.TTS(voice="en-us+f3"),
        )

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Introduce yourself as billing.")

    @function_tool()
    async def transfer_back(self, context: RunContext) -> Agent:
        """Transfer the user back."""
        return Greeter()


def first_words(chat_ctx: ChatContext) -> str:
    said = [m.text_content for m in chat_ctx.messages() if m.role == "user"]
    return f"your first words were {said[0]}."


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "greet the user": "hello from the greeter.",
                "introduce yourself": "hello from the billing office.",
                "pay my bill": Call("transfer_to_billing"),
                "first words": first_words,
                "take me back": Call("transfer_back"),
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=Greeter(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
