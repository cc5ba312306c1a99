"""Session userdata: tools of one call share a typed dataclass."""

from dataclasses import dataclass

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    cli,
    function_tool,
)
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


@dataclass
class MySessionInfo:
    user_name: str | None = None
    age: int | None = None


class IntakeAgent(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Collect the user's name and age.")

    @function_tool()
    async def record_name(self, context: RunContext[MySessionInfo], name: str) -> str:
        """Use this tool to record the user's name."""
        context.userdata.user_name = name
        return self._status()

    @function_tool()
    async def record_age(self, context: RunContext[MySessionInfo], age: int) -> str:
        """Use this tool to record the user's age."""
        context.userdata.age = age
        return self._status()

    def _status(self) -> str:
        data = self.session.userdata
        return f"name {data.user_name} age {data.age}"


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession[MySessionInfo](
        userdata=MySessionInfo(),
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "my name is": Call("record_name", {"name": "sam"}),
                "years old": Call("record_age", {"age": 30}),
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=IntakeAgent(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
