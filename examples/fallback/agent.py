"""A voice agent whose models are here first, and in a cloud when those here can't serve.

Each of speech to text, language model and text to speech is a chain: LiveKit's `FallbackAdapter`
asks the first, goes on to the next when that one fails, and comes back once it has recovered. The
cloud is any server that speaks OpenAI's protocol, also one of your own.
"""

import os
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, llm, stt, tts, vad
from livekit.plugins import openai

import voxray

INSTRUCTIONS = "You are a friendly assistant on the phone. Answer in one or two short sentences."
LOCAL_LLM_URL = os.environ.get("LOCAL_LLM_URL", "http://127.0.0.1:11434/v1")
LOCAL_LLM_MODEL = os.environ.get("LOCAL_LLM_MODEL", "llama3.2")
CLOUD_LLM_MODEL = os.environ.get("CLOUD_LLM_MODEL", "gpt-4o-mini")
# OPENAI_API_KEY, and OPENAI_BASE_URL for another cloud, are read by the plugin itself.


def hearing(listener: vad.VAD) -> stt.STT[Any]:
    """Return speech to text: voxray's shared engine, then the cloud's."""
    return stt.FallbackAdapter(
        [voxray.STT(), openai.STT(use_realtime=False)],
        # The cloud takes whole utterances: the VAD says where they end.
        vad=listener,
        # A caller waits. And ours has been to every replica already when it gives up.
        attempt_timeout=3.0,
        max_retry_per_stt=0,
    )


def thinking() -> llm.LLM[Any]:
    """Return the language model: the one of this machine, then the cloud's."""
    return llm.FallbackAdapter(
        [
            # Servers of one's own want some key, and look at none.
            openai.LLM(model=LOCAL_LLM_MODEL, base_url=LOCAL_LLM_URL, api_key="none"),
            openai.LLM(model=CLOUD_LLM_MODEL),
        ],
        attempt_timeout=3.0,
    )


def speaking() -> tts.TTS[Any]:
    """Return text to speech: voxray's shared engine, then the cloud's."""
    return tts.FallbackAdapter(
        [voxray.TTS(), openai.TTS(response_format="pcm", model="gpt-4o-mini-tts")],
        max_retry_per_tts=0,
    )


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """Answer one call."""
    listener = voxray.VAD()
    session: AgentSession[None] = AgentSession(
        vad=listener, stt=hearing(listener), llm=thinking(), tts=speaking()
    )
    await session.start(agent=Agent(instructions=INSTRUCTIONS), room=ctx.room)
    await session.generate_reply(instructions="Greet the caller.")


if __name__ == "__main__":
    cli.run_app(server)
