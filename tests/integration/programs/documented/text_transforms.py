"""Text transforms before speech, and a transcript aligned with what is spoken."""

from collections.abc import AsyncIterable

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from livekit.agents.voice import text_transforms
from local_models import GRAMMAR, ScriptedLLM

import voxray


async def slower(text: AsyncIterable[str]) -> AsyncIterable[str]:
    async for chunk in text:
        yield chunk.replace("fast", "slow")


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"sing": "this is **very** fast, says the API. 🎵"}),
        tts=voxray.TTS(),
        tts_text_transforms=[
            "filter_markdown",
            "filter_emoji",
            text_transforms.replace({"API": "interface"}),
            slower,
        ],
        use_tts_aligned_transcript=True,
    )
    await session.start(agent=Agent(instructions="Sing."), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
