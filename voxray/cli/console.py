"""What the command line shows: results on standard output, everything else on standard error."""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class _Voice:
    """How `say` writes its lines: as they are, or as what reads a program's logs expects them."""

    formatter: logging.Formatter | None = None


def say(text: str) -> None:
    """Tell the person at the terminal one thing."""
    if _Voice.formatter is not None:
        text = _Voice.formatter.format(
            logging.LogRecord("voxray.cli", logging.INFO, "", 0, text, None, None)
        )
    print(text, file=sys.stderr, flush=True)


def speak_json() -> None:
    """Write what is said as JSON lines from now on, as the app's processes write their logs."""
    from voxray.observability.logs import JsonFormatter  # noqa: PLC0415 - few commands need it

    _Voice.formatter = JsonFormatter({"role": "cli"})


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show that something goes on: a spinner on a terminal, lines elsewhere.

    Args:
        text: what is going on.

    Yields:
        A function that replaces the text; it may be called from any thread.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        say(text)
        yield say
        return
    with console.status(Text(text)) as spinner:
        yield lambda newer: spinner.update(Text(newer))


def show_json(value: object) -> None:
    """Print a result for a script: one JSON object."""
    print(json.dumps(value, indent=2), flush=True)


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a result for a person.

    Args:
        title: stands above the table.
        columns: their headings.
        rows: one value a column, shown by `str`; never read as markup.
    """
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, Text) else Text(str(value)) for value in row))
    # Looked up at each call: the stream may have been replaced since the import.
    console = Console(file=sys.stdout)
    console.print(table if table.row_count else Text(f"{title}: none"))
