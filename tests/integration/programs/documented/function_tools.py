"""Function tools in every form: method, plain function, raw schema, typed arguments, ToolError."""

from enum import Enum
from typing import Annotated, Any, Literal

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    ToolError,
    cli,
    function_tool,
)
from local_models import GRAMMAR, Call, ScriptedLLM
from pydantic import Field

import voxray


class RoomName(str, Enum):
    BEDROOM = "bedroom"
    KITCHEN = "kitchen"


@function_tool()
async def set_light(
    context: RunContext,
    room: Annotated[RoomName, Field(description="The room with the light")],
    state: Literal["on", "off"],
    brightness: int = 100,
) -> str:
    """Switch a light on or off."""
    return f"the light in the {room.value} is {state} at {brightness}"


raw_schema = {
    "type": "function",
    "name": "open_gate",
    "description": "Opens a specified gate from a predefined set of access points.",
    "parameters": {
        "type": "object",
        "properties": {
            "gate_id": {"type": "string", "enum": ["main_entrance", "loading_dock"]},
        },
        "required": ["gate_id"],
        "additionalProperties": False,
    },
}


@function_tool(raw_schema=raw_schema)
async def open_gate(raw_arguments: dict[str, Any], context: RunContext) -> str:
    return f"gate {raw_arguments['gate_id']} is open"


class Assistant(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Use your tools.", tools=[set_light, open_gate])

    @function_tool()
    async def lookup_weather(self, context: RunContext, location: str) -> str:
        """Look up weather information for a given location."""
        if location == "mars":
            raise ToolError("This location is not supported yet.")
        return f"it is sunny in {location}"

    @function_tool(name="book", description="Book a table.")
    async def book_a_table(self, context: RunContext, guests: int) -> None:
        self.session.say("one moment, i am booking.")
        await context.wait_for_playout()
        context.disallow_interruptions()
        await self.session.say(f"booked for {guests}.")


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "sunny in": lambda chat_ctx: "sunny it is.",
                "weather in paris": Call("lookup_weather", {"location": "paris"}),
                "weather on mars": Call("lookup_weather", {"location": "mars"}),
                "light please": Call("set_light", {"room": "kitchen", "state": "on"}),
                "strange light": Call("set_light", {"room": "kitchen", "state": "purple"}),
                "gate please": Call("open_gate", {"gate_id": "loading_dock"}),
                "table": Call("book", {"guests": 4}),
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=Assistant(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
