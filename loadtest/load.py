"""Many calls at once, against any LiveKit agent that knows the questions."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from voxray.base.errors import ConfigError
from voxray.loadtest.access import LiveKitAccess, new_room_name
from voxray.loadtest.call import CallObserver, CallPlan, CallResult, Turn, run_call
from voxray.loadtest.caller import Patience
from voxray.loadtest.facts import holds
from voxray.loadtest.questions import Question, deal
from voxray.loadtest.speech import speak_all


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """A load.

    Attributes:
        rooms: calls at the same time, one caller each.
        turns: questions of each caller.
        questions: what is asked; dealt out so that callers ask something else at any one time.
        patience: how long callers wait for things.
    """

    access: LiveKitAccess
    rooms: int
    turns: int
    questions: Sequence[Question]
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """How a load went; `calls` are in the order of their rooms."""

    calls: tuple[CallResult, ...]
    seconds: float

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns of all calls."""
        return tuple(turn for call in self.calls for turn in call.turns)

    @property
    def missing(self) -> int:
        """Questions without an answer, those of calls that ended early included."""
        asked = sum(call.asked for call in self.calls)
        return asked - sum(turn.answered for turn in self.turns)


async def run_load(plan: LoadPlan, observer: CallObserver | None = None) -> LoadResult:
    """Make all calls at once and wait for their ends, which `plan.patience` bounds.

    Raises:
        ConfigError: the plan has no rooms, no turns or no questions.
        EngineError: a question could not be spoken.
    """
    if plan.rooms < 1 or plan.turns < 1 or not plan.questions:
        raise ConfigError(
            f"a load needs at least one room, one turn and one question, not {plan.rooms}, "
            f"{plan.turns} and {len(plan.questions)}"
        )
    dealt = deal(plan.questions, plan.rooms, plan.turns)
    speech = await speak_all(question.say for questions in dealt for question in questions)
    began_s = time.monotonic()
    calls = await _run_calls(
        [
            CallPlan(
                access=plan.access,
                room=new_room_name("load"),
                questions=questions,
                speech=speech,
                patience=plan.patience,
            )
            for questions in dealt
        ],
        observer or CallObserver(),
    )
    return LoadResult(calls=find_mix_ups(calls), seconds=time.monotonic() - began_s)


async def _run_calls(plans: Sequence[CallPlan], observer: CallObserver) -> list[CallResult]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(run_call(plan, observer), name=f"call-{plan.room}")
                for plan in plans
            ]
    except ExceptionGroup as failures:
        # The others were cancelled because of the first; the command line explains one error.
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def find_mix_ups(calls: Sequence[CallResult]) -> tuple[CallResult, ...]:
    """Mark answers that do not fit their own question, but one that another caller asked."""
    marked = []
    for call in calls:
        foreign = [
            turn.question.expect for other in calls if other is not call for turn in other.turns
        ]
        turns = tuple(
            replace(turn, mixed_up=True)
            if turn.answered
            and not turn.correct
            and any(holds(turn.exchange.answer, facts) for facts in foreign)
            else turn
            for turn in call.turns
        )
        marked.append(replace(call, turns=turns))
    return tuple(marked)
