"""Which files of a program are watched, and when they changed."""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from watchfiles import PythonFilter, awatch

_DEBOUNCE_MS = 300
"""An editor writes a file in several steps, and "save all" several files: one change."""
_QUIET_MS = 80
"""A burst of changes is over when nothing has changed for so long."""


def watched_folders(program: Path, sources: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders to watch: the program's (of its package, if it lies in one), and those
    of what it imports from elsewhere. None lies within another.
    """
    own = program.expanduser().resolve().parent
    while (own.parent / "__init__.py").is_file():
        own = own.parent
    folders = {own, *(source.parent for source in sources)}
    return tuple(
        sorted(each for each in folders if not any(other in each.parents for other in folders))
    )


async def changes(
    program: Path, sources: Callable[[], Iterable[Path]]
) -> AsyncIterator[frozenset[Path]]:
    """Yield the Python files that changed, after each burst of changes.

    Args:
        program: the program's file.
        sources: what it is known to import, asked before each wait.
    """
    folders = watched_folders(program, sources())
    while True:
        # Only what was there at the beginning of a watch is watched: begin anew after a change.
        async for found in awatch(
            *folders, watch_filter=PythonFilter(), debounce=_DEBOUNCE_MS, step=_QUIET_MS
        ):
            yield frozenset(Path(os.fspath(path)) for _, path in found)
            newer = watched_folders(program, sources())
            if newer != folders:
                folders = newer
                break
