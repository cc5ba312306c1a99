"""A false interruption: noise stops the agent, and as no word came it goes on."""

import asyncio

from livekit.agents import (
    Agent,
    AgentFalseInterruptionEvent,
    AgentServer,
    AgentSession,
    JobContext,
    ModelSettings,
    TurnHandlingOptions,
    cli,
)
from local_models import GRAMMAR, ScriptedLLM

import voxray

NOISE = "please tell me a long story"
STORY = " ".join(f"this is sentence {number} of the story." for number in range(1, 5))


class Storyteller(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Tell stories.")

    async def stt_node(self, audio, model_settings: ModelSettings):
        # These words are noise: nothing that was said to the agent.
        async for event in Agent.default.stt_node(self, audio, model_settings):
            if not any(NOISE.startswith(heard.text) for heard in event.alternatives):
                yield event


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"tell a story": STORY}),
        tts=voxray.TTS(),
        aec_warmup_duration=None,
        turn_handling=TurnHandlingOptions(
            interruption={
                "mode": "vad",
                "min_duration": 0.3,
                "resume_false_interruption": True,
                "false_interruption_timeout": 1.0,
            },
        ),
    )
    tasks: set[asyncio.Task] = set()

    @session.on("agent_false_interruption")
    def on_false_interruption(ev: AgentFalseInterruptionEvent) -> None:
        line = f"resumed: {ev.resumed}"
        task = asyncio.create_task(ctx.room.local_participant.send_text(line, topic="events"))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await session.start(agent=Storyteller(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
