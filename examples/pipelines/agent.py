"""A voice agent whose models and manners come from one name and the environment.

    voxray start examples/pipelines/agent.py        # on Ray, models shared by all calls

    PIPELINE=openai-compatible OPENAI_BASE_URL=http://127.0.0.1:11434/v1 voxray start ...
    TURN_DETECTION_SILENCE_MS=800 TURN_DETECTION_INTERRUPTION_MS=300 voxray start ...

`PIPELINE=local`, the default, has no language model: the waiter repeats the order.
"""

import os
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, StopResponse, cli, llm

import voxray

GRAMMAR = """#JSGF V1.0;
grammar orders;
public <order> = i would like <number> <drink> [please];
<number> = one | two | three;
<drink> = coffee | tea | water;
"""


class Waiter(Agent):
    """Takes orders."""

    def __init__(self) -> None:
        super().__init__(instructions="You take orders for drinks. Repeat each in one sentence.")

    async def on_enter(self) -> None:
        """Greet the caller."""
        self.session.say("what would you like to drink?")

    async def on_user_turn_completed(
        self,
        turn_ctx: llm.ChatContext,  # noqa: ARG002 - livekit-agents gives it
        new_message: llm.ChatMessage,
    ) -> None:
        """Repeat the order where no language model does it."""
        if self.session.llm is None:
            order = (new_message.text_content or "").removeprefix("i would like ")
            self.session.say(f"{order}, here you are.")
            raise StopResponse


def new_session(model: llm.LLM[Any] | None = None) -> AgentSession[None]:
    """Return a session as the environment asks; `model` stands in for the pipeline's own."""
    name = os.environ.get("PIPELINE", "local")
    return AgentSession(**voxray.pipeline(name, stt={"grammar": GRAMMAR}, llm=model))


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """Serve one caller."""
    await ctx.connect()
    await new_session().start(room=ctx.room, agent=Waiter())


if __name__ == "__main__":
    cli.run_app(server)
