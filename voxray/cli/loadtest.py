"""`voxray loadtest`: many synthetic callers at once, against any LiveKit agent."""

import json
import os
import random
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from voxray.base.settings import load_settings
from voxray.cli.interrupts import run_interruptibly
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.call import CallObserver, CallResult, Turn
from voxray.loadtest.caller import JoinTimes
from voxray.loadtest.example import load_destinations
from voxray.loadtest.load import LoadPlan, LoadResult, run_load
from voxray.loadtest.questions import Question, load_questions, timetable_questions
from voxray.loadtest.report import load_json, load_table

_LARGEST_SEED = 10_000


@click.command()
@click.option("--rooms", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--turns", type=click.IntRange(min=1), default=3, show_default=True, help="Questions a caller."
)
@click.option("--url", help="LiveKit server (default: LIVEKIT_URL).")
@click.option("--api-key", help="LiveKit API key (default: LIVEKIT_API_KEY).")
@click.option("--api-secret", help="LiveKit API secret (default: LIVEKIT_API_SECRET).")
@click.option("--agent-name", default="", help="Agent to dispatch by name; none is automatic.")
@click.option(
    "--questions",
    "file",
    type=click.Path(path_type=Path),
    help="Questions to ask: a JSON or YAML list of {say, expect: [fact, ...]}.",
)
@click.option("--seed", type=int, help="Which questions; another one each time by default.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def loadtest(  # noqa: PLR0913 - one parameter for each option of the command
    *,
    rooms: int,
    turns: int,
    url: str | None,
    api_key: str | None,
    api_secret: str | None,
    agent_name: str,
    file: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Call an agent from many rooms at once, each caller asking something else.

    The agent has to know the questions: those of examples/timetable, or those of --questions.
    Exits with 1 when an answer is missing.

    \b
    Example:
      voxray loadtest --rooms 10 --turns 5
    """
    access = _access(url, api_key, api_secret, agent_name)
    console = Console(stderr=True)
    questions = _questions(file, seed, console)
    plan = LoadPlan(access=access, rooms=rooms, turns=turns, questions=questions)
    with _live(console, plan) as view:
        result = run_interruptibly(lambda _: run_load(plan, view), view.say)
    _report(result, console)
    if as_json:
        click.echo(json.dumps(load_json(result), indent=2))
    sys.exit(1 if result.missing else 0)


class _LoadView(CallObserver):
    """Counts of what has happened so far, and a line for each thing that went wrong."""

    def __init__(self, progress: Progress, plan: LoadPlan) -> None:
        self._progress = progress
        self._joins = progress.add_task("agents there", total=plan.rooms)
        self._answers = progress.add_task("questions answered", total=plan.rooms * plan.turns)
        self._ends = progress.add_task("calls over", total=plan.rooms)

    def say(self, text: str) -> None:
        """Print one line above the counts."""
        self._progress.console.print(escape(text), highlight=False)

    def joined(self, room: str, times: JoinTimes) -> None:  # noqa: ARG002 - it is only counted
        """An agent is there."""
        self._progress.advance(self._joins)

    def asked(self, room: str, number: int, turn: Turn) -> None:
        """A question was answered, or a caller gave up."""
        if turn.answered:
            self._progress.advance(self._answers)
        else:
            self.say(f"{room}: no answer to question {number}")

    def ended(self, result: CallResult) -> None:
        """A caller has hung up."""
        self._progress.advance(self._ends)
        if result.error:
            self.say(f"{result.room}: {result.error}")


@contextmanager
def _live(console: Console, plan: LoadPlan) -> Iterator[_LoadView]:
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _LoadView(progress, plan)


def _access(
    url: str | None, api_key: str | None, api_secret: str | None, agent_name: str
) -> LiveKitAccess:
    flags = {"livekit": {"url": url, "api_key": api_key, "api_secret": api_secret}}
    livekit = load_settings(os.environ, flags=flags).livekit
    livekit.require_complete()
    return LiveKitAccess(
        url=livekit.url,
        api_key=livekit.api_key,
        api_secret=livekit.api_secret.get_secret_value(),
        agent_name=agent_name,
    )


def _questions(file: Path | None, seed: int | None, console: Console) -> tuple[Question, ...]:
    if file is not None:
        return load_questions(file)
    seed = secrets.randbelow(_LARGEST_SEED) if seed is None else seed
    console.print(f"questions of seed {seed} (--seed {seed} asks them again)", highlight=False)
    rng = random.Random(seed)  # noqa: S311 - which trains are asked about is no secret
    return timetable_questions(load_destinations(), rng)


def _report(result: LoadResult, console: Console) -> None:
    console.print(load_table(result))
    asked = sum(call.asked for call in result.calls)
    turns = result.turns
    console.print(
        f"{asked} questions in {len(result.calls)} rooms, {result.seconds:.1f} s: "
        f"{result.missing} without an answer, {sum(turn.correct for turn in turns)} answered "
        f"right, {sum(turn.mixed_up for turn in turns)} mixed up",
        highlight=False,
    )
