"""Where the livekit-server program comes from: the operator, the PATH, or a build of our own."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from voxray.base.errors import MissingPartError
from voxray.loadtest.child_process import kill_child, start_child

PINNED_VERSION = "1.13.5"
"""The server that is built where there is none; the tests run against it."""

_VARIABLE = "VOXRAY_LIVEKIT_SERVER"
_MODULE = f"github.com/livekit/livekit-server/cmd/server@v{PINNED_VERSION}"
# What the module's go.mod asks for.
_OLDEST_GO = (1, 26)
_VERSION_DEADLINE_S = 10.0
# A cold build takes two minutes on two idle cores; on a busy machine many times that.
_BUILD_DEADLINE_S = 1800.0
_PROGRESS_EVERY_S = 5.0
_REMEDY = (
    f"put livekit-server on the PATH, or set {_VARIABLE} to its file, "
    f"or install Go {_OLDEST_GO[0]}.{_OLDEST_GO[1]} or newer (it is then built once)"
)

Progress = Callable[[str], None]


def find_or_install(
    home: Path,
    *,
    environment: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the livekit-server program, building it with Go where there is none.

    Looked for in this order: the file in `VOXRAY_LIVEKIT_SERVER`, `livekit-server` on the PATH,
    one built earlier into `home/bin`, then `go install` of the pinned version into that folder.

    Args:
        home: folder for what voxray builds (`.voxray` of the project, or `VOXRAY_HOME`).
        environment: variables to go by; None takes those of this process.
        progress: told in one line each what happens; a build takes one to two minutes.

    Raises:
        MissingPartError: none was found and none could be built; says what to install.
    """
    variables = os.environ if environment is None else environment
    say = progress or _say_nothing
    if (found := find(home, environment=variables)) is not None:
        return found
    go = find_go(variables)
    folder = home.absolute() / "bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingPartError(
            f"livekit-server can't be built into {folder}: {error.strerror}; {_REMEDY}"
        ) from error
    with _locked(folder / ".lock", say):
        # Another process may have built it while we waited.
        target = _built(home)
        if not target.is_file():
            _build(go, target, variables, say)
    return target


def find(home: Path, *, environment: Mapping[str, str]) -> Path | None:
    """Return a livekit-server that is already here, or None.

    Raises:
        MissingPartError: the file that the operator named is none.
    """
    if named := environment.get(_VARIABLE):
        path = Path(named).expanduser().absolute()
        if server_version(path) is None:
            raise MissingPartError(
                f"{_VARIABLE}={named} is no livekit-server that runs here; "
                "name its program file, or unset the variable"
            )
        return path
    on_path = shutil.which("livekit-server", path=environment.get("PATH", os.defpath))
    if on_path is not None and server_version(Path(on_path)) is not None:
        return Path(on_path).absolute()
    built = _built(home)
    return built if built.is_file() else None


def server_version(program: Path) -> str | None:
    """Return what `--version` of a livekit-server says (`1.13.5`), or None if it is none."""
    text = _output_of([str(program), "--version"])
    found = re.search(r"livekit-server version v?(\d+\.\d+\.\d+\S*)", text)
    return found.group(1) if found else None


def go_version(go: Path) -> tuple[int, int] | None:
    """Return a Go program's version (`(1, 26)`), or None if it does not tell."""
    found = re.search(r"go version go(\d+)\.(\d+)", _output_of([str(go), "version"]))
    return (int(found.group(1)), int(found.group(2))) if found else None


def find_go(environment: Mapping[str, str]) -> Path:
    """Return a Go that can build the server.

    Raises:
        MissingPartError: there is none, or it is too old.
    """
    go = shutil.which("go", path=environment.get("PATH", os.defpath))
    if go is None:
        raise MissingPartError(f"livekit-server is not on this machine, and no Go; {_REMEDY}")
    version = go_version(Path(go))
    if version is None or version < _OLDEST_GO:
        shown = ".".join(map(str, version)) if version else "unknown"
        raise MissingPartError(
            f"livekit-server is not on this machine, and {go} is too old to build it "
            f"(version {shown}); {_REMEDY}"
        )
    return Path(go).absolute()


def _built(home: Path) -> Path:
    return home.absolute() / "bin" / f"livekit-server-{PINNED_VERSION}"


def _build(go: Path, target: Path, environment: Mapping[str, str], say: Progress) -> None:
    say(f"building livekit-server {PINNED_VERSION} with Go, once: takes one to two minutes")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as name:
        folder = Path(name)
        variables = dict(environment)
        # Pure Go, as in LiveKit's own images: no C compiler needed.
        variables |= {"GOBIN": str(folder), "CGO_ENABLED": "0"}
        # A cross-compiling shell would make `go install` refuse GOBIN.
        for other in ("GOOS", "GOARCH", "GOFLAGS"):
            variables.pop(other, None)
        if not variables.get("HOME"):
            caches = target.parent.parent / "go"
            variables.setdefault("GOPATH", str(caches))
            variables.setdefault("GOCACHE", str(caches / "cache"))
        log = folder / "log"
        status = _run_build([go, "install", "-v", _MODULE], log, variables, say)
        program = folder / "server"
        if status != 0 or not program.is_file():
            lines = log.read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"go install ended with status {status}"
            raise MissingPartError(f"livekit-server could not be built: {reason}; {_REMEDY}")
        program.replace(target)
    say(f"livekit-server {PINNED_VERSION} is built")


def _run_build(
    command: list[str | Path], log: Path, environment: Mapping[str, str], say: Progress
) -> int:
    """Run a build and tell how far it is; return its exit status, or -9 past the deadline."""
    started = time.monotonic()
    with log.open("wb") as output:
        process = start_child(command, output=output, environment=environment, folder=log.parent)
    try:
        while (passed := time.monotonic() - started) < _BUILD_DEADLINE_S:
            try:
                return process.wait(timeout=_PROGRESS_EVERY_S)
            except subprocess.TimeoutExpired:
                lines = log.read_bytes().splitlines()
                loaded = sum(line.startswith(b"go: downloading") for line in lines)
                compiled = len(lines) - loaded
                say(
                    f"building livekit-server: {passed:.0f} s, "
                    f"{loaded} modules loaded, {compiled} packages compiled"
                )
    finally:
        kill_child(process)
    return process.returncode


@contextmanager
def _locked(path: Path, say: Progress) -> Iterator[None]:
    """Hold a lock file, so that two processes don't build at once; it ends with its holder."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building livekit-server: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _output_of(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a program that the operator named or has on the PATH
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _say_nothing(_: str) -> None:
    pass
