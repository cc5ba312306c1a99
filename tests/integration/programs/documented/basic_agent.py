"""The voice AI quickstart: an agent with instructions, a greeting and one tool."""

from typing import Any

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    cli,
    function_tool,
    room_io,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


class Assistant(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You are a helpful voice AI assistant.")

    @function_tool()
    async def lookup_weather(self, context: RunContext, location: str) -> dict[str, Any]:
        """Look up weather information for a given location.

        Args:
            location: The location to look up weather information for.
        """
        return {"weather": "sunny", "location": location}


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "greet": "hello, how can i help you?",
                "weather in paris": Call("lookup_weather", {"location": "paris"}),
                "sunny": lambda chat_ctx: "it is sunny in paris.",
            }
        ),
        tts=voxray.TTS(),
        vad=voxray.VAD.load(),
    )
    await session.start(
        room=ctx.room,
        agent=Assistant(),
        room_options=room_io.RoomOptions(audio_input=room_io.AudioInputOptions()),
    )
    await ctx.connect()
    await session.generate_reply(instructions="Greet the user and offer your assistance.")


if __name__ == "__main__":
    cli.run_app(server)
