"""A TaskGroup: tasks in order, a step back to an earlier one, the results together."""

from dataclasses import dataclass

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    AgentTask,
    JobContext,
    RunContext,
    cli,
    function_tool,
)
from livekit.agents.beta.workflows import TaskGroup
from local_models import GRAMMAR, Call, ScriptedLLM

import voxray


@dataclass
class NameResult:
    name: str


class GetNameTask(AgentTask[NameResult]):
    def __init__(self) -> None:
        super().__init__(instructions="Collect the user's name.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Ask for the name.")

    @function_tool()
    async def record_name(self, context: RunContext, name: str) -> None:
        """Record the user's name."""
        self.complete(NameResult(name=name))


class GetCityTask(AgentTask[str]):
    def __init__(self) -> None:
        super().__init__(instructions="Collect the user's city.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Ask for the city.")

    @function_tool()
    async def record_city(self, context: RunContext, city: str) -> None:
        """Record the user's city."""
        self.complete(city)


class SurveyAgent(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Make a survey.")

    async def on_enter(self) -> None:
        group = TaskGroup(summarize_chat_ctx=False)
        group.add(lambda: GetNameTask(), id="name_task", description="Collects the name")
        group.add(lambda: GetCityTask(), id="city_task", description="Collects the city")
        results = (await group).task_results
        await self.session.say(f"{results['name_task'].name} lives in {results['city_task']}.")


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM(
            {
                "ask for the name": "what is your name?",
                "ask for the city": "which city?",
                "i am sam": Call("record_name", {"name": "sam"}),
                "no i am kim": Call("record_name", {"name": "kim"}),
                "my name is wrong": Call("out_of_scope", {"task_ids": ["name_task"]}),
                "i live in rome": Call("record_city", {"city": "rome"}),
            }
        ),
        tts=voxray.TTS(),
    )
    await session.start(agent=SurveyAgent(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
