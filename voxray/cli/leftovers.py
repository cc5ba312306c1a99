"""A local Ray's own folder, and what is left of one whose command was killed.

The command that starts Ray holds a lock on a file in the folder for as long as it lives; the
system lets go of it however the command ends. A folder without its lock is a leftover. Most of
Ray's processes end with the command that started them, some seconds later; those that don't, hung
ones and Ray's own agents, nothing else would ever end.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from voxray.base.errors import ConfigError

_PREFIX = "voxray-"
_OWNER = "owner.json"
_TOKEN = "auth_token"  # noqa: S105 - a file's name
# Ray's processes inherit it. Those that name themselves (`ray::...`) overwrite their environment as
# it is seen from outside; they are known by their log files.
_MARK = "RAY_TMPDIR"
_END_DEADLINE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class LocalFolder:
    """The folder of a local Ray that this process owns.

    Attributes:
        path: only this user can look into it.
        token_file: holds the secret that Ray asks everybody for.
        close: lets go of the folder and deletes it.
    """

    path: Path
    token_file: Path
    lock: int = field(repr=False)

    def close(self) -> None:
        """Delete the folder and let go of it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self.lock)


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A local Ray whose command is gone."""

    app: str
    path: Path
    processes: tuple[psutil.Process, ...] = ()


def make_folder(app: str) -> LocalFolder:
    """Make the folder of a local Ray, with a fresh token for its authentication."""
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (path / "ray").mkdir()
    token_file = path / _TOKEN
    _write(token_file, secrets.token_hex(32))
    _write(path / _OWNER, json.dumps({"app": app, "pid": os.getpid()}))
    lock = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return LocalFolder(path=path, token_file=token_file, lock=lock)


def find_leftovers() -> tuple[Leftover, ...]:
    """Return what is left of this user's killed commands; folders without a process are deleted."""
    abandoned = {str(path): app for path, app in _abandoned()}
    if not abandoned:
        return ()
    marked: dict[str, list[psutil.Process]] = {path: [] for path in abandoned}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (path := _folder_of(process, marked)) is not None:
                marked[path].append(process)
    found = []
    for path, processes in marked.items():
        if processes:
            found.append(Leftover(app=abandoned[path], path=Path(path), processes=tuple(processes)))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return tuple(found)


def clear(app: str, tell: Callable[[str], None]) -> None:
    """End what a killed start of this app left on this machine, and tell of that of others.

    Raises:
        ConfigError: something of this app can't be ended.
    """
    for leftover in find_leftovers():
        count = len(leftover.processes)
        if leftover.app == app:
            tell(f"ending what a killed start of app {app} left running ({count} processes)")
            end_leftover(leftover)
            continue
        pids = " ".join(str(process.pid) for process in leftover.processes)
        tell(
            f"a start of app {leftover.app} was killed and its {count} processes still run; "
            f"start that app again to replace them, or end them: kill -9 {pids}"
        )


def end_leftover(leftover: Leftover) -> None:
    """End the processes of a leftover and delete its folder.

    Raises:
        ConfigError: some of them can't be ended.
    """
    # The sessions' own processes first: Ray would start new ones in the place of those it loses.
    ordered = sorted(leftover.processes, key=lambda each: each.pid)
    for process in ordered:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(ordered, timeout=_END_DEADLINE_S)
    if alive:
        pids = " ".join(str(process.pid) for process in alive)
        raise ConfigError(
            f"processes of an earlier start of app {leftover.app} can't be ended: kill -9 {pids}"
        )
    shutil.rmtree(leftover.path, ignore_errors=True)


def _folder_of(process: psutil.Process, folders: Collection[str]) -> str | None:
    if process.uids().real != os.getuid():
        return None
    if (marked := process.environ().get(_MARK, "")) in folders:
        return marked
    opened = [file.path for file in process.open_files()]
    return next(
        (each for each in folders if any(file.startswith(f"{each}/") for file in opened)), None
    )


def _abandoned() -> Iterator[tuple[Path, str]]:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = path / _OWNER
        try:
            if path.stat().st_uid != os.getuid():
                continue
            with owner.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                app = str(json.load(file)["app"])
        except (OSError, ValueError, KeyError, TypeError):
            # Locked: its command lives. Unreadable: none of ours.
            continue
        yield path, app


def _write(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(content)
