"""A voice agent that knows the trains of one station.

    voxray start examples/timetable/agent.py        # on Ray, models shared by all calls
    python examples/timetable/agent.py dev          # under the stock livekit-agents worker

Its language model follows rules, so it works offline. With OPENAI_BASE_URL, OPENAI_API_KEY or
TIMETABLE_LLM_URL set (and TIMETABLE_LLM_MODEL for the model's name) it asks that
OpenAI-compatible server instead.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    ToolError,
    TurnHandlingOptions,
    cli,
    function_tool,
    llm,
)
from rules import RuleBasedLLM
from timetable import Train, load_timetable, speech_grammar

import voxray

TIMETABLE = load_timetable(Path(__file__).with_name("trains.json"))
GRAMMAR = speech_grammar(TIMETABLE)

INSTRUCTIONS = f"""\
You are the voice of the information desk at {TIMETABLE.station}. Look every fact up with a tool.
Answer in one short sentence that names the destination. Say times like 9:15, on the 24-hour
clock, and numbers in digits. When you did not understand, ask the caller to repeat."""


class InformationDesk(Agent):
    """Answers questions about today's trains."""

    def __init__(self) -> None:
        super().__init__(instructions=INSTRUCTIONS)

    async def on_enter(self) -> None:
        """Greet the caller."""
        await self.session.generate_reply(instructions="Greet the caller in one short sentence.")

    @function_tool
    async def next_train(self, destination: str, not_before: str = "00:00") -> str:
        """Find the next train to a destination: its departure time and platform.

        Args:
            destination: Name of the city.
            not_before: Earliest departure as HH:MM, if the caller named a time.
        """
        return _find(destination, not_before).to_json()

    @function_tool
    async def platform_of(self, destination: str, not_before: str = "00:00") -> str:
        """Find the platform that a train leaves from.

        Args:
            destination: Name of the city.
            not_before: The train's departure as HH:MM, if the caller named a time.
        """
        return _find(destination, not_before).to_json()

    @function_tool
    async def journey_time(self, destination: str) -> str:
        """Find how many minutes the journey to a destination takes.

        Args:
            destination: Name of the city.
        """
        train = _find(destination)
        return json.dumps({"destination": train.destination, "minutes": train.minutes})

    @function_tool
    async def ticket_price(self, destination: str) -> str:
        """Find the price of a ticket to a destination.

        Args:
            destination: Name of the city.
        """
        train = _find(destination)
        price = {"price": train.price, "currency": TIMETABLE.currency}
        return json.dumps({"destination": train.destination, **price})

    @function_tool
    async def changes_on_the_way(self, destination: str) -> str:
        """Find how often one has to change trains on the way to a destination.

        Args:
            destination: Name of the city.
        """
        train = _find(destination)
        return json.dumps({"destination": train.destination, "changes": train.changes})


def _find(destination: str, not_before: str = "00:00") -> Train:
    if train := TIMETABLE.first_train(destination, not_before):
        return train
    if destination.strip().lower() in (name.lower() for name in TIMETABLE.destinations):
        raise ToolError(f"no train to {destination} leaves at {not_before} or later.")
    raise ToolError(f"there is no train to {destination}. Ask for another destination.")


def _choose_llm() -> Callable[[], llm.LLM[Any]]:
    """Return what makes the language model of a session, as the environment asks."""
    url = os.environ.get("TIMETABLE_LLM_URL") or os.environ.get("OPENAI_BASE_URL")
    if not url and not os.environ.get("OPENAI_API_KEY"):
        return RuleBasedLLM
    try:
        # Here and not in the session: a plugin registers itself on the main thread only.
        from livekit.plugins import openai  # noqa: PLC0415 - needed by few, and not always there
    except ImportError as error:
        raise SystemExit(
            "a language model server is set, but its plugin is not installed: "
            "run `pip install livekit-plugins-openai`, or unset TIMETABLE_LLM_URL, "
            "OPENAI_BASE_URL and OPENAI_API_KEY to use the rules that come with the example"
        ) from error
    model = os.environ.get("TIMETABLE_LLM_MODEL", "gpt-4o-mini")
    # Servers on one's own machine want some key, and look at none.
    key = os.environ.get("OPENAI_API_KEY") or "none"
    if not url:
        return lambda: openai.LLM(model=model, api_key=key)
    return lambda: openai.LLM(model=model, api_key=key, base_url=url)


new_llm = _choose_llm()
server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """Answer one call."""
    session: AgentSession[None] = AgentSession(
        vad=voxray.VAD(),
        stt=voxray.STT(grammar=GRAMMAR),
        llm=new_llm(),
        tts=voxray.TTS(),
        # Questions here are one breath long: a short pause is already their end.
        turn_handling=TurnHandlingOptions(
            turn_detection="vad",
            endpointing={"min_delay": 0.3, "max_delay": 1.0},
            # The other mode, "adaptive", asks a service of LiveKit Cloud.
            interruption={"mode": "vad"},
        ),
    )
    await session.start(agent=InformationDesk(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
