"""Push to talk: turn_detection="manual", and the frontend says when a turn begins and ends."""

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, TurnHandlingOptions, cli
from local_models import GRAMMAR, ScriptedLLM

import voxray

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(),
        tts=voxray.TTS(),
        turn_handling=TurnHandlingOptions(turn_detection="manual"),
    )
    await session.start(agent=Agent(instructions="Wait for the button."), room=ctx.room)

    # Disable audio input at the start.
    session.input.set_audio_enabled(False)

    @ctx.room.local_participant.register_rpc_method("start_turn")
    async def start_turn(data: rtc.RpcInvocationData) -> str:
        session.interrupt()
        session.clear_user_turn()
        # Listen to the caller if there are many.
        session.room_io.set_participant(data.caller_identity)
        session.input.set_audio_enabled(True)
        return "listening"

    @ctx.room.local_participant.register_rpc_method("end_turn")
    async def end_turn(data: rtc.RpcInvocationData) -> str:
        session.input.set_audio_enabled(False)
        return await session.commit_user_turn(transcript_timeout=5.0)

    @ctx.room.local_participant.register_rpc_method("cancel_turn")
    async def cancel_turn(data: rtc.RpcInvocationData) -> str:
        session.input.set_audio_enabled(False)
        session.clear_user_turn()
        return "cancelled"

    await ctx.room.local_participant.set_attributes({"button": "ready"})


if __name__ == "__main__":
    cli.run_app(server)
