"""Run files: how a command finds the apps that run on this machine, and their API's token."""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from voxray.base.errors import ConfigError
from voxray.cli.home import user_home

_FOLDER = "run"
# The system's clock may be set a little between the two looks.
_SAME_START_S = 2.0


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """One running app.

    Attributes:
        app: the app's name.
        api: address of its dispatcher's HTTP API, `http://host:port`.
        pid: the process whose end makes the file stale; None for an app that was left running
            on a cluster, which may be on other machines.
        started_at: when that process began, Unix seconds: its number may be another's by now.
        token: what the API asks for; never printed.
    """

    app: str
    api: str
    pid: int | None
    token: str = field(repr=False)
    started_at: float | None = field(default=None, compare=False)


def write_run_file(run: RunFile, environment: Mapping[str, str] | None = None) -> Path:
    """Tell other commands of this user about a running app; return the file.

    Raises:
        ConfigError: the folder can't be written.
    """
    path = _folder(environment) / f"{run.app}.json"
    fresh = path.with_suffix(f".{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.unlink(missing_ok=True)
        # It holds a token: nobody else may read it, not for a moment.
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(asdict(run) | {"started_at": _start_of(run.pid)}, file)
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: the run file can't be written: {error.strerror}; "
            "set VOXRAY_HOME to a folder of yours"
        ) from error
    return path


def _start_of(pid: int | None) -> float | None:
    if pid is None:
        return None
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).create_time()
    return None


def check_name_is_free(app: str, environment: Mapping[str, str] | None = None) -> None:
    """Refuse the name of an app that runs on this machine already.

    Raises:
        ConfigError: it does; two apps of one name would hide each other from every command.
    """
    for run in read_run_files(environment):
        # One that was left running on a cluster is found there, by its dispatcher's name.
        if run.app == app and run.pid is not None:
            raise ConfigError(
                f"app {app} runs on this machine already (process {run.pid}); stop it, or give "
                "this one another name with --app"
            )


def remove_run_file(path: Path) -> None:
    """Take our run file back; another process's stays. Idempotent."""
    run = _read(path)
    if run is not None and run.pid == os.getpid():
        path.unlink(missing_ok=True)


def read_run_files(environment: Mapping[str, str] | None = None) -> tuple[RunFile, ...]:
    """Return the apps that run, by name; files that are stale or broken are deleted."""
    runs = []
    for path in sorted(_folder(environment).glob("*.json")):
        run = _read(path)
        if run is not None and (run.pid is None or _is_alive(run)):
            runs.append(run)
        else:
            path.unlink(missing_ok=True)
    return tuple(runs)


def _read(path: Path) -> RunFile | None:
    try:
        content = json.loads(path.read_text())
        pid = content["pid"]
        return RunFile(
            app=str(content["app"]),
            api=str(content["api"]),
            pid=None if pid is None else int(pid),
            token=str(content["token"]),
            started_at=content.get("started_at"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_alive(run: RunFile) -> bool:
    try:
        began = psutil.Process(run.pid).create_time()
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
    return run.started_at is None or abs(began - run.started_at) < _SAME_START_S


def _folder(environment: Mapping[str, str] | None) -> Path:
    return user_home(os.environ if environment is None else environment) / _FOLDER
