"""BackgroundAudioPlayer: ambient sound from the start, another clip on demand."""

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    AudioConfig,
    BackgroundAudioPlayer,
    BuiltinAudioClip,
    JobContext,
    cli,
)
from local_models import GRAMMAR, ScriptedLLM

import voxray

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(), stt=voxray.STT(grammar=GRAMMAR), llm=ScriptedLLM(), tts=voxray.TTS()
    )
    await session.start(agent=Agent(instructions="Sit in an office."), room=ctx.room)

    background_audio = BackgroundAudioPlayer(
        ambient_sound=AudioConfig(BuiltinAudioClip.OFFICE_AMBIENCE, volume=0.8),
    )
    await background_audio.start(room=ctx.room, agent_session=session)

    @ctx.room.local_participant.register_rpc_method("play")
    async def play(data: rtc.RpcInvocationData) -> str:
        handle = background_audio.play(AudioConfig(BuiltinAudioClip.HOLD_MUSIC, volume=1.0))

        @ctx.room.local_participant.register_rpc_method("stop")
        async def stop(data: rtc.RpcInvocationData) -> str:
            handle.stop()
            await handle.wait_for_playout()
            return str(handle.done())

        return "playing"

    @ctx.room.local_participant.register_rpc_method("close")
    async def close(data: rtc.RpcInvocationData) -> str:
        await background_audio.aclose()
        return "closed"


if __name__ == "__main__":
    cli.run_app(server)
