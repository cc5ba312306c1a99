"""What `voxray demo` prints for people, on standard error."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from voxray.loadtest.call import CallObserver, Turn
from voxray.loadtest.caller import JoinTimes
from voxray.loadtest.facts import missing_facts
from voxray.loadtest.questions import Question
from voxray.loadtest.report import turns_table
from voxray.loadtest.turns_api import STAGES

_MILLISECONDS = 1000


class DemoView(CallObserver):
    """Steps with a spinner, then every turn as it happens, then the closing table."""

    def __init__(self, console: Console, questions: Sequence[Question]) -> None:
        self._console = console
        self._questions = questions

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show that something is going on; yields what shows its details."""
        began_s = time.monotonic()
        with self._console.status(escape(what)) as status:
            yield lambda detail: status.update(escape(f"{what}: {detail}"))
        took_s = time.monotonic() - began_s
        self._console.print(
            f"[green]ok[/]  {escape(what)} [dim]({took_s:.1f} s)[/]", highlight=False
        )

    def addresses(self, addresses: dict[str, str | None]) -> None:
        """Print where the parts of the demo can be looked at while it runs."""
        for name, address in addresses.items():
            if address:
                self.say(f"      {name:<10} {address}")

    def joined(self, room: str, times: JoinTimes) -> None:
        """The agent is there."""
        self.say(
            f"the agent is in room {room} after {_ms(times.agent_joined_s)}, "
            f"its audio track after {_ms(times.agent_audible_s)}; waiting for its greeting to end"
        )

    def asking(self, room: str, number: int, question: Question) -> None:  # noqa: ARG002 - one room
        """The caller begins with a question."""
        self._console.print(
            f"\n[bold]{number}/{len(self._questions)}[/] said    {escape(question.say)}",
            highlight=False,
            soft_wrap=True,
        )

    def asked(self, room: str, number: int, turn: Turn) -> None:  # noqa: ARG002 - one room
        """A question was answered, or the caller gave up."""
        exchange = turn.exchange
        self._line("heard", exchange.heard or "(no transcript)", good=turn.understood)
        if turn.inside is not None:
            self._line("tool", ", ".join(turn.inside.tools) or "(none)")
        self._line("answer", exchange.answer or "(no answer)", good=turn.correct)
        if not turn.correct:
            missing = missing_facts(exchange.answer, turn.question.expect)
            self._line("missing", "; ".join(missing), good=False)
        if exchange.latency_s is not None:
            inside = "" if turn.inside is None else f"; inside: {_stages(turn.inside.stages)}"
            self._line("latency", f"{_ms(exchange.latency_s)} as heard{inside}")

    def closing(self, turns: Sequence[Turn]) -> None:
        """Print the closing table, if there is anything to close."""
        if not turns:
            return
        self._console.print()
        self._console.print(turns_table(turns))

    def _line(self, name: str, text: str, *, good: bool | None = None) -> None:
        colour = {None: "none", True: "green", False: "red"}[good]
        self._console.print(
            f"    {name:<7} [{colour}]{escape(text)}[/]", highlight=False, soft_wrap=True
        )


def _stages(stages: Mapping[str, float]) -> str:
    known = (name for name in STAGES if name in stages)
    return ", ".join(f"{name.replace('_', ' ')} {_ms(stages[name])}" for name in known)


def _ms(seconds: float) -> str:
    return f"{seconds * _MILLISECONDS:.0f} ms"
