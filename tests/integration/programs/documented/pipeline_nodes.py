"""Node overrides: what is heard, thought, spoken and written is changed on its way."""

from collections.abc import AsyncIterable

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, ModelSettings, cli, stt
from livekit.agents.llm import ChatContext, Tool
from local_models import GRAMMAR, ScriptedLLM

import voxray


class Filters(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Answer.")

    async def stt_node(
        self, audio: AsyncIterable[rtc.AudioFrame], model_settings: ModelSettings
    ) -> AsyncIterable[stt.SpeechEvent]:
        async for event in Agent.default.stt_node(self, audio, model_settings):
            if event.type == stt.SpeechEventType.FINAL_TRANSCRIPT:
                heard = event.alternatives[0]
                heard.text = heard.text.replace("paris", "rome")
            yield event

    async def llm_node(
        self, chat_ctx: ChatContext, tools: list[Tool], model_settings: ModelSettings
    ):
        yield "node says: "
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            yield chunk

    async def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings):
        whisper = False

        async def watch() -> AsyncIterable[str]:
            nonlocal whisper
            async for chunk in text:
                whisper = whisper or "whisper" in chunk
                yield chunk

        async for frame in Agent.default.tts_node(self, watch(), model_settings):
            if whisper:
                quiet = (np.frombuffer(frame.data, np.int16) // 16).astype(np.int16)
                yield rtc.AudioFrame(
                    quiet.tobytes(),
                    frame.sample_rate,
                    frame.num_channels,
                    frame.samples_per_channel,
                )
            else:
                yield frame

    async def transcription_node(self, text: AsyncIterable[str], model_settings: ModelSettings):
        async for delta in text:
            yield delta.replace("password", "********")


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "aloud": "this is the voice as it always is.",
                "softly": "whisper is the voice as it always is.",
                "secret": "the password is open.",
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=Filters(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
