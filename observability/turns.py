"""Turns of one AgentSession, made of livekit-agents' conversation items and their metrics.

A turn is what the user said and all that the agent answered to it, tool calls included. It is
over when the agent listens again, when the user's next words are taken up, or when the session
closes. What the agent says without being asked (the greeting) is no turn, and neither is what
got no answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from livekit.agents import ChatMessage, FunctionCall

from voxray.base.ids import JobId
from voxray.observability.events import TurnDone

# Our stage name by the name in `livekit.agents.llm.MetricsReport`.
_USER_STAGES = {
    "transcription_delay": "transcription",
    "end_of_turn_delay": "end_of_turn",
    "on_user_turn_completed_delay": "on_user_turn_completed",
}
_AGENT_STAGES = {
    "llm_node_ttft": "llm_ttft",
    "tts_node_ttfb": "tts_ttfb",
    "e2e_latency": "e2e",
}
_MODELS = {"stt_metadata": "stt", "llm_metadata": "llm", "tts_metadata": "tts"}
_IDLE_STATES = frozenset({"listening", "idle"})


@dataclass
class _Turn:
    stages: dict[str, float] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    tools: list[str] = field(default_factory=list)
    answered_at: float | None = None
    interrupted: bool = False


class TurnCollector:
    """Turns the events of one session into `TurnDone`. Every method returns a finished turn."""

    def __init__(
        self, job_id: JobId, room: str, agent: str, *, numbers: Iterator[int] | None = None
    ) -> None:
        """Start with no turn.

        Args:
            job_id: the job of the session.
            room: the room's name.
            agent: the agent's name for dispatch.
            numbers: gives the turns their numbers; sessions of one job share it.
        """
        self._job_id = job_id
        self._room = room
        self._agent = agent
        self._numbers = numbers if numbers is not None else count(1)
        self._turn: _Turn | None = None

    def item_added(self, item: object) -> TurnDone | None:
        """Take an item of `conversation_item_added`; others than messages tell nothing."""
        if not isinstance(item, ChatMessage):
            return None
        if item.role == "user":
            finished = self._finish()
            self._turn = _Turn()
            self._take(self._turn, item, _USER_STAGES)
            return finished
        if item.role == "assistant" and self._turn is not None:
            self._take(self._turn, item, _AGENT_STAGES)
            self._turn.interrupted |= item.interrupted
            if self._turn.answered_at is None:
                self._turn.answered_at = item.metrics.get("started_speaking_at", item.created_at)
        return None

    def tools_executed(self, calls: Sequence[FunctionCall]) -> None:
        """Take the calls of `function_tools_executed`."""
        if self._turn is not None:
            self._turn.tools.extend(call.name for call in calls)

    def agent_state_changed(self, state: str) -> TurnDone | None:
        """Take the new state of `agent_state_changed`.

        While a tool works on, the state is `thinking`, so that `listening` means the end.
        """
        return self._finish() if state in _IDLE_STATES else None

    def close(self) -> TurnDone | None:
        """Take the end of the session."""
        return self._finish()

    def _finish(self) -> TurnDone | None:
        turn = self._turn
        if turn is None or turn.answered_at is None:
            return None
        self._turn = None
        return TurnDone(
            job_id=self._job_id,
            room=self._room,
            agent=self._agent,
            number=next(self._numbers),
            stages=turn.stages,
            tools=tuple(turn.tools),
            interrupted=turn.interrupted,
            models=turn.models,
            at=turn.answered_at,
        )

    @staticmethod
    def _take(turn: _Turn, item: ChatMessage, names: Mapping[str, str]) -> None:
        metrics: Mapping[str, Any] = item.metrics
        for theirs, ours in names.items():
            # An answer in several parts counts from its first: that is what the user waits for.
            if theirs in metrics:
                turn.stages.setdefault(ours, max(0.0, float(metrics[theirs])))
        for theirs, ours in _MODELS.items():
            if model := metrics.get(theirs, {}).get("model_name"):
                turn.models.setdefault(ours, str(model))
