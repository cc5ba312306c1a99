"""RPC both ways: the frontend calls the agent, a tool asks the frontend."""

import json

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    ToolError,
    cli,
    function_tool,
    get_job_context,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


@function_tool()
async def get_user_location(context: RunContext, high_accuracy: bool) -> str:
    """Retrieve the user's current geolocation as lat/lng."""
    try:
        room = get_job_context().room
        participant_identity = next(iter(room.remote_participants))
        return await room.local_participant.perform_rpc(
            destination_identity=participant_identity,
            method="getUserLocation",
            payload=json.dumps({"highAccuracy": high_accuracy}),
            response_timeout=10.0 if high_accuracy else 5.0,
        )
    except rtc.RpcError:
        raise ToolError("unable to retrieve user location") from None


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"where am i": Call("get_user_location", {"high_accuracy": True})}),
        tts=voxray.TTS(),
    )

    await ctx.connect()

    @ctx.room.local_participant.register_rpc_method("greet")
    async def greet(data: rtc.RpcInvocationData) -> str:
        if not data.payload:
            raise rtc.RpcError(1500, "who is it?")
        return f"hello {data.payload} ({data.caller_identity}), it is {session.agent_state}"

    await session.start(
        agent=Agent(instructions="Find the user.", tools=[get_user_location]), room=ctx.room
    )


if __name__ == "__main__":
    cli.run_app(server)
