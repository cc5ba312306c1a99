"""Preemptive generation: the model begins before the end of the turn is certain."""

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    ChatContext,
    ChatMessage,
    JobContext,
    TurnHandlingOptions,
    cli,
)
from local_models import GRAMMAR, ScriptedLLM

import voxray


class Eager(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="Be quick.")
        self.steps: list[str] = []

    def llm_node(self, chat_ctx, tools, model_settings):
        self.steps.append("generated")
        return Agent.default.llm_node(self, chat_ctx, tools, model_settings)

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: ChatMessage) -> None:
        self.steps.append("turn completed")


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    agent = Eager()
    session = AgentSession(
        vad=voxray.VAD.load(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=ScriptedLLM({"steps": lambda chat_ctx: ", ".join(agent.steps)}),
        tts=voxray.TTS(),
        turn_handling=TurnHandlingOptions(
            turn_detection="vad",
            endpointing={"mode": "fixed", "min_delay": 1.5, "max_delay": 3.0},
            preemptive_generation={"enabled": True, "preemptive_tts": True},
        ),
    )
    await session.start(agent=agent, room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
