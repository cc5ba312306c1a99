"""`voxray demo`: a caller speaks to the example's agent, everything on this machine."""

import json
import os
import random
import secrets
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click
from rich.console import Console

from voxray.base.errors import ConfigError
from voxray.base.settings import Settings, load_settings
from voxray.cli.demo_run import DemoPlan, DemoResult, RunningAgent, run_demo
from voxray.cli.demo_view import DemoView
from voxray.cli.home import build_home
from voxray.cli.interrupts import run_interruptibly
from voxray.loadtest.example import load_destinations
from voxray.loadtest.livekit_server import find_or_install
from voxray.loadtest.questions import (
    Question,
    load_questions,
    pick_different,
    timetable_questions,
)

_QUESTIONS = 3
_APP = "demo"
_LARGEST_SEED = 10_000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--keep", is_flag=True, help="Stay up until Ctrl-C, and say how to call in.")
@click.option(
    "--url", help="A running LiveKit server; keys from LIVEKIT_API_KEY and LIVEKIT_API_SECRET."
)
@click.option(
    "--questions",
    "file",
    type=click.Path(path_type=Path),
    help="Questions to ask: a JSON or YAML list of {say, expect: [fact, ...]}.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("demo.wav"),
    show_default=True,
    help="Where the recording goes: caller left, agent right.",
)
@click.option("--seed", type=int, help="Which questions; another one each time by default.")
@click.option("--llm-url", help="OpenAI-compatible server to use in place of the rules.")
def demo(  # noqa: PLR0913 - one parameter for each option of the command
    *,
    as_json: bool,
    keep: bool,
    url: str | None,
    file: Path | None,
    record: Path,
    seed: int | None,
    llm_url: str | None,
) -> None:
    """Let a synthetic caller ask the timetable example three questions aloud.

    Exits with 0 only if all of them were understood and answered with the right facts.

    \b
    Example:
      voxray demo --keep
    """
    if not record.absolute().parent.is_dir():
        raise ConfigError(f"--record {record}: there is no folder {record.parent} to write to")
    questions, seed = _questions(file, seed)
    settings = _settings(url)
    if llm_url is not None:
        # The example reads it, as any program reads its own variables.
        os.environ["TIMETABLE_LLM_URL"] = llm_url
    view = DemoView(Console(stderr=True), questions)
    if seed is not None:
        view.say(f"questions of seed {seed} (--seed {seed} asks them again)")
    server: Path | None = None
    if url is None:
        with view.step("the livekit-server program") as say:
            server = find_or_install(build_home(os.environ), progress=say)
    plan = DemoPlan(
        settings=settings,
        server=server,
        questions=questions,
        seed=seed,
        record=record,
        keep=keep,
        on_result=_print_json if as_json else lambda _: None,
    )
    result = run_interruptibly(
        lambda interrupts: run_demo(plan, _deploy, view, interrupts), view.say
    )
    sys.exit(0 if result.ok else 1)


def _questions(file: Path | None, seed: int | None) -> tuple[tuple[Question, ...], int | None]:
    if file is not None:
        return load_questions(file), None
    seed = secrets.randbelow(_LARGEST_SEED) if seed is None else seed
    rng = random.Random(seed)  # noqa: S311 - which trains are asked about is no secret
    return pick_different(timetable_questions(load_destinations(), rng), _QUESTIONS), seed


def _settings(url: str | None) -> Settings:
    settings = load_settings(
        os.environ, flags={"app": _APP, "livekit": {"url": url}, "http": {"port": 0}}
    )
    if url is not None:
        settings.livekit.require_complete()
    return settings


def _deploy(
    program: Path, settings: Settings, say: Callable[[str], None]
) -> AbstractAsyncContextManager[RunningAgent]:
    from voxray.cli.deployment import deploy  # noqa: PLC0415 - imports Ray's part of the package

    return deploy(program, settings, on_progress=say)


def _print_json(result: DemoResult) -> None:
    click.echo(json.dumps(result.to_json(), indent=2))
