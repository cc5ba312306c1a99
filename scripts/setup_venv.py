"""Sets up `.venv` from the lock file; a second run finds its stamp and is done at once.

Runs under the Python that `find_python.sh` chose, with its standard library only. Everything is
told on standard error: `make demo DEMO_ARGS=--json` has the standard output to itself.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_PROJECT = Path(__file__).absolute().parents[1]
_VENV = _PROJECT / ".venv"
_PYTHON = _VENV / "bin" / "python"
_STAMP = _VENV / "voxray-setup"
_LOCK_FILE = _PROJECT / ".voxray" / "setup.lock"
_UV_REQUIREMENTS = _PROJECT / "scripts" / "uv.txt"
# What decides whether an environment is current.
_INPUTS = ("pyproject.toml", "requirements.lock", "scripts/uv.txt", "scripts/setup_venv.py")
# uv does not read pip's settings; a machine behind a mirror has them there.
_PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "cert": "SSL_CERT_FILE",
}


def main() -> int:
    """Set up the environment if it is not current; return the exit status."""
    if _is_current():
        return 0
    try:
        with _only_one():
            if not _is_current():
                _set_up()
    except subprocess.CalledProcessError as error:
        _say(f"voxray: error: setup failed in `{' '.join(error.cmd[1:4])} ...`; see above")
        return 1
    except KeyboardInterrupt:
        _say("setup interrupted; the next run takes it up again")
        return 130
    return 0


def _set_up() -> None:
    started = time.monotonic()
    # From here on the environment is in between, whatever its inputs become meanwhile.
    _STAMP.unlink(missing_ok=True)
    steps: Sequence[tuple[str, Callable[[], None]]] = (
        ("creating .venv", _create_venv),
        ("fetching the installer", _install_uv),
        ("installing the packages of requirements.lock", _install_locked),
        ("installing voxray", _install_voxray),
    )
    for number, (title, step) in enumerate(steps, 1):
        _say(f"setup {number}/{len(steps)}: {title}")
        step()
    _write_stamp()
    _say(f"setup done in {time.monotonic() - started:.0f} s")


def _create_venv() -> None:
    if _venv_works():
        return
    if _VENV.exists():
        # Half made, moved here, or of a Python that is gone.
        shutil.rmtree(_VENV)
    _run([sys.executable, "-m", "venv", _VENV])


def _venv_works() -> bool:
    if not (_VENV / "bin" / "pip").is_file():
        return False
    # A link to a Python that was removed exists, but does not run; a moved environment says
    # another folder.
    question = "import sys, pip; print(sys.prefix, sys.version_info[:2])"
    try:
        done = subprocess.run(
            [_PYTHON, "-c", question], capture_output=True, text=True, check=False, env=_clean()
        )
    except OSError:
        return False
    return done.stdout.strip() == f"{_VENV} {sys.version_info[:2]}"


def _install_uv() -> None:
    _run(
        [
            *(_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", _UV_REQUIREMENTS),
        ]
    )


def _install_locked() -> None:
    # Compiled at once: many processes start together later, and each would compile for itself.
    _uv("pip", "sync", "--require-hashes", "--compile-bytecode", "requirements.lock")


def _install_voxray() -> None:
    # The build backend is in the lock: nothing is fetched for an isolated build.
    _uv("pip", "install", "--no-deps", "--no-build-isolation", "--editable", ".")


def _uv(*arguments: str) -> None:
    environment = _clean() | {"VIRTUAL_ENV": str(_VENV)}
    for name, value in _pip_settings().items():
        environment.setdefault(name, value)
    if sys.stderr.isatty():  # uv draws its own progress.
        _run([_VENV / "bin" / "uv", *arguments], environment)
        return
    command = [str(_VENV / "bin" / "uv"), *arguments]
    with subprocess.Popen(
        command, cwd=_PROJECT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            # Its list of every package would bury what a log is read for.
            if not line.startswith((" + ", " - ", " ~ ")):
                _say(f"  {line.rstrip()}")
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


def _pip_settings() -> Mapping[str, str]:
    done = subprocess.run(
        [_PYTHON, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        env=_clean(),
    )
    settings = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        name = _PIP_TO_UV.get(key.rpartition(".")[2])
        if name is not None:
            settings[name] = value.strip("'\"")
    return settings


def _clean() -> dict[str, str]:
    """Return the environment without what would turn a Python away from `.venv`."""
    away = ("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if name not in away}


def _is_current() -> bool:
    return _PYTHON.exists() and _STAMP.is_file() and _STAMP.read_text() == _fingerprint()


def _write_stamp() -> None:
    fresh = _STAMP.with_suffix(".new")
    fresh.write_text(_fingerprint())
    fresh.replace(_STAMP)


def _fingerprint() -> str:
    """Return a digest of everything that the environment is made from."""
    digest = hashlib.sha256(f"{_PROJECT} {sys.version_info[:2]}".encode())
    for name in _INPUTS:
        digest.update((_PROJECT / name).read_bytes())
    return digest.hexdigest()


@contextmanager
def _only_one() -> Iterator[None]:
    """Let one setup run at a time; the lock ends with its holder."""
    _LOCK_FILE.parent.mkdir(exist_ok=True)
    with _LOCK_FILE.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another setup is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(
        [str(part) for part in command],
        check=True,
        cwd=_PROJECT,
        env=environment or _clean(),
        stdout=sys.stderr,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
