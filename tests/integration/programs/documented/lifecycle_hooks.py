"""Hooks: a greeting (on_enter), a goodbye (on_exit), a lookup (on_user_turn_completed)."""

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    ChatContext,
    ChatMessage,
    JobContext,
    StopResponse,
    cli,
    function_tool,
    get_job_context,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


async def rag_lookup(query: str) -> str:
    return f"the {query} opens at nine"


class Librarian(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Answer from what was looked up.")

    async def on_enter(self) -> None:
        self.session.say("welcome to the library.")

    async def on_exit(self) -> None:
        await self.session.say("goodbye from the library.")

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: ChatMessage) -> None:
        said = new_message.text_content or ""
        if "story" in said:
            room = get_job_context().room
            await room.local_participant.set_attributes({"ignored": said})
            raise StopResponse()
        found = await rag_lookup(said)
        turn_ctx.add_message(role="assistant", content=f"Additional information: {found}")

    @function_tool()
    async def leave(self) -> Agent:
        """Called when the user wants to leave the library."""
        return Porter()


class Porter(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="See the user out.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Show the way out.")


def answer_from_lookup(chat_ctx: ChatContext) -> str:
    added = [m.text_content or "" for m in chat_ctx.messages() if m.role == "assistant"]
    return next(text for text in reversed(added) if text.startswith("Additional"))


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "train": answer_from_lookup,
                "show the way": "the door is on the left.",
                "bye": Call("leave"),
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=Librarian(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
