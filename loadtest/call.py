"""One whole call: join, hear the greeting, ask every question, hang up."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from voxray.base.errors import ConnectionFailedError, DeadlineError
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.caller import Caller, Exchange, JoinTimes, Patience
from voxray.loadtest.facts import holds, word_errors
from voxray.loadtest.questions import Question
from voxray.loadtest.recording import Recording
from voxray.loadtest.turn_clock import Outcome
from voxray.loadtest.turns_api import TurnRecord
from voxray.pipelines.engines.base import Samples

# A transcript with more word errors than this was not understood: one small word in four.
_UNDERSTOOD = 0.25


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question that was asked, and what came of it.

    Attributes:
        inside: the turn as the agent's side measured it, where that is known.
        mixed_up: the answer fits a question that another caller asked, and not this one.
    """

    question: Question
    exchange: Exchange
    inside: TurnRecord | None = None
    mixed_up: bool = False

    @property
    def answered(self) -> bool:
        """Whether the agent said something after the question."""
        return self.exchange.outcome is not Outcome.MISSING

    @property
    def understood(self) -> bool:
        """Whether the agent heard what was said."""
        return word_errors(self.question.say, self.exchange.heard) <= _UNDERSTOOD

    @property
    def correct(self) -> bool:
        """Whether the answer holds the facts that were asked for."""
        return self.answered and holds(self.exchange.answer, self.question.expect)


@dataclass(frozen=True, kw_only=True)
class CallPlan:
    """What a caller does, and in which room.

    Attributes:
        speech: samples of every question, by its words (see `speech.speak_all`).
        inside: asked after each answer for the turn as measured on the agent's side.
    """

    access: LiveKitAccess
    room: str
    questions: Sequence[Question]
    speech: Mapping[str, Samples]
    patience: Patience = field(default_factory=Patience)
    recording: Recording | None = None
    inside: Callable[[], Awaitable[TurnRecord | None]] | None = None


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """How a call went.

    Attributes:
        joined: None when no agent came.
        greeted: whether the agent greeted.
        turns: of the questions that were asked; all of them, unless `error` says otherwise.
        asked: how many questions the caller had.
        error: why the call ended early, or empty.
    """

    room: str
    joined: JoinTimes | None
    greeted: bool
    turns: tuple[Turn, ...]
    asked: int
    error: str = ""


class CallObserver:
    """Told how a call goes on; does nothing unless overridden."""

    def joined(self, room: str, times: JoinTimes) -> None:
        """The agent is there."""

    def asking(self, room: str, number: int, question: Question) -> None:
        """The caller begins with question `number`, counted from 1."""

    def asked(self, room: str, number: int, turn: Turn) -> None:
        """A question was answered, or the caller gave up."""

    def ended(self, result: CallResult) -> None:
        """The caller has hung up."""


async def run_call(plan: CallPlan, observer: CallObserver) -> CallResult:
    """Make one call. What LiveKit or the agent does wrong is in the result, never raised."""
    caller = Caller(plan.access, plan.room, patience=plan.patience, recording=plan.recording)
    joined: JoinTimes | None = None
    greeted = False
    turns: list[Turn] = []
    error = ""
    try:
        joined = await caller.join()
        observer.joined(plan.room, joined)
        greeted = await caller.hear_greeting()
        for number, question in enumerate(plan.questions, 1):
            observer.asking(plan.room, number, question)
            exchange = await caller.ask(plan.speech[question.say])
            turn = Turn(question=question, exchange=exchange, inside=await _inside(plan, exchange))
            turns.append(turn)
            observer.asked(plan.room, number, turn)
    except (ConnectionFailedError, DeadlineError) as failure:
        error = str(failure)
    finally:
        await caller.aclose()
    result = CallResult(
        room=plan.room,
        joined=joined,
        greeted=greeted,
        turns=tuple(turns),
        asked=len(plan.questions),
        error=error,
    )
    observer.ended(result)
    return result


async def _inside(plan: CallPlan, exchange: Exchange) -> TurnRecord | None:
    if plan.inside is None or exchange.outcome is Outcome.MISSING:
        return None
    return await plan.inside()
