"""`voxray top`: an app's hosts, calls and latencies, live."""

import sys
import time
from collections import deque
from typing import Any

import click
import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from voxray.base.errors import ConnectionFailedError
from voxray.cli import console
from voxray.cli.api_client import ApiAddress, ask, ask_list, find_api, is_here
from voxray.cli.options import which_app
from voxray.cli.shown import JsonObject, objects
from voxray.cli.top_view import figures, render

_TURNS = 500
"""Turns that count for the latencies: the last ones."""


@click.command()
@which_app
@click.option("--once", is_flag=True, help="Print once and end; so it does without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and end.")
@click.option("--rooms", is_flag=True, help="Show the rooms' names.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
def top(
    *, api: str | None, app: str | None, once: bool, as_json: bool, rooms: bool, interval: float
) -> None:
    """Watch an app: hosts, calls, slots, replicas, and how long callers wait for answers.

    \b
    Example:
      voxray top --rooms
      voxray top --json | jq .turns.p95_s
    """
    watch = _Watch(find_api(api, app))
    shown_now = watch.look()
    if as_json:
        console.show_json(shown_now)
        return
    out = Console(file=sys.stdout)
    if once or not out.is_terminal:
        out.print(render(shown_now, rooms=rooms))
        return
    try:
        with Live(
            render(shown_now, rooms=rooms), console=out, screen=True, auto_refresh=False
        ) as live:
            while True:
                time.sleep(interval)
                live.update(_next(watch, rooms=rooms), refresh=True)
    except KeyboardInterrupt:
        # How one leaves it; nothing was interrupted.
        return


def _next(watch: "_Watch", *, rooms: bool) -> Any:
    try:
        return render(watch.look(), rooms=rooms)
    except ConnectionFailedError as error:
        # A dispatcher that restarts is back in seconds.
        return Text(str(error))


class _Watch:
    """Asks the API again and again; turns are asked for once each."""

    def __init__(self, api: ApiAddress) -> None:
        self._api = api
        self._cursor = 0
        self._turns: deque[JsonObject] = deque(maxlen=_TURNS)

    def look(self) -> dict[str, Any]:
        """Return the figures of this moment."""
        status = ask(self._api, "/status")
        for turn in ask_list(self._api, f"/turns?after={self._cursor}"):
            if isinstance(turn, dict):
                self._cursor = max(self._cursor, int(turn.get("cursor", 0)))
                self._turns.append(turn)
        return figures(status, tuple(self._turns), self._memory(status))

    def _memory(self, status: JsonObject) -> dict[int, int]:
        """Return the memory of the app's processes, if they run on this machine."""
        if not is_here(self._api):
            return {}
        memory: dict[int, int] = {}
        for process in (*objects(status, "hosts"), *objects(status, "replicas")):
            pid = process.get("pid")
            if not isinstance(pid, int):
                continue
            try:
                memory[pid] = psutil.Process(pid).memory_info().rss
            except psutil.Error:
                continue
        return memory
