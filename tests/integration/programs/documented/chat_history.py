"""Chat context at the start, and the conversation kept at the end by a shutdown callback."""

import json
from pathlib import Path

from livekit.agents import Agent, AgentServer, AgentSession, ChatContext, JobContext, cli
from local_models import GRAMMAR, ScriptedLLM

import voxray


class Assistant(Agent):
    def __init__(self, chat_ctx: ChatContext) -> None:
        super().__init__(chat_ctx=chat_ctx, instructions="You are a helpful voice AI assistant.")


def who(chat_ctx: ChatContext) -> str:
    known = [m.text_content or "" for m in chat_ctx.messages() if m.role == "assistant"]
    return known[0]


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"who am i": who}),
        tts=voxray.TTS(),
    )

    async def write_transcript() -> None:
        path = Path.home() / f"transcript_{ctx.room.name}.json"
        path.write_text(json.dumps(session.history.to_dict(), indent=2))

    async def log_usage(reason: str) -> None:
        usage = {use.type: use.model_dump() for use in session.usage.model_usage}
        path = Path.home() / f"usage_{ctx.room.name}.json"
        path.write_text(json.dumps({"usage": usage, "reason": reason}, default=str))

    ctx.add_shutdown_callback(write_transcript)
    ctx.add_shutdown_callback(log_usage)

    initial_ctx = ChatContext()
    initial_ctx.add_message(role="assistant", content="the user is called sam")
    await session.start(agent=Assistant(chat_ctx=initial_ctx), room=ctx.room)
    await session.say("hello again.")


if __name__ == "__main__":
    cli.run_app(server)
