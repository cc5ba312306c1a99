"""Measures one turn: from the end of the caller's speech to the first audio of the answer.

Pure: moments in (seconds of one monotonic clock), a measured turn out.
"""

from enum import StrEnum

from voxray.loadtest.listening import SpeechBegan, SpeechEdge


class Outcome(StrEnum):
    """How a turn ended for the caller.

    ANSWERED: the agent spoke after the question and came to an end. UNFINISHED: it still spoke
    at the deadline. MISSING: nothing was heard.
    """

    ANSWERED = "answered"
    UNFINISHED = "unfinished"
    MISSING = "missing"


class TurnClock:
    """Follows one turn, from the moment when the caller begins to ask.

    Args:
        agent_speaking: whether the agent is speaking already.
    """

    def __init__(self, *, agent_speaking: bool = False) -> None:
        self._agent_speaking = agent_speaking
        self._asked_s: float | None = None
        self._answer_began_s: float | None = None
        self._talked_over = agent_speaking

    @property
    def talked_over(self) -> bool:
        """Whether the agent spoke while the caller was asking."""
        return self._talked_over

    @property
    def latency_s(self) -> float | None:
        """End of speech to first audio of the answer; None without an answer."""
        if self._asked_s is None or self._answer_began_s is None:
            return None
        return self._answer_began_s - self._asked_s

    @property
    def outcome(self) -> Outcome:
        """How the turn stands now."""
        if self._answer_began_s is None:
            return Outcome.MISSING
        return Outcome.UNFINISHED if self._agent_speaking else Outcome.ANSWERED

    def question_ended(self, at_s: float) -> None:
        """The last sample of the question was played out."""
        self._asked_s = at_s

    def heard(self, edge: SpeechEdge) -> None:
        """The agent began or ceased to speak."""
        self._agent_speaking = isinstance(edge, SpeechBegan)
        if not isinstance(edge, SpeechBegan):
            return
        if self._asked_s is None or edge.at_s < self._asked_s:
            self._talked_over = True
        elif self._answer_began_s is None:
            self._answer_began_s = edge.at_s
