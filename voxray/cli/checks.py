"""What a machine needs to run voxray, one small check for each part.

A check returns what it found; it never raises. What may crash or hang (native libraries) is tried
in a process of its own.
"""

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from voxray.base.errors import ConfigError, MissingPartError, VoxrayError
from voxray.base.settings import Settings
from voxray.base.tls import TlsSettings, load_certificates
from voxray.cli.cluster import RAY_ENVIRONMENT, Authentication, authentication
from voxray.cli.home import build_home
from voxray.loadtest.livekit_binary import PINNED_VERSION, find, find_go, server_version

_CHILD_DEADLINE_S = 60.0
# Ray keeps its object store there; voxray itself puts next to nothing into it.
_SMALLEST_SHARED_MEMORY = 256 * 1024 * 1024
# A call holds about six files (sockets of its media, timers), and Ray some hundreds.
_FEWEST_OPEN_FILES = 4096


class Level(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """Works, but not everything does; the exit code stays 0."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a check found.

    Attributes:
        name: the part.
        level: how it came out.
        found: what is there, or what is wrong.
        remedy: what to do about it; empty if nothing.
    """

    name: str
    level: Level
    found: str
    remedy: str = ""


def check_python() -> Result:
    """Check the interpreter."""
    shown = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Result(name="python", level=Level.OK, found=shown)
    return Result(
        name="python",
        level=Level.FAILED,
        found=f"{shown} was never tested with voxray",
        remedy="use Python 3.11, 3.12 or 3.13",
    )


def check_packages() -> Result:
    """Check that the installed packages are of the versions that voxray was tested with."""
    wrong = []
    for text in requires("voxray") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} is not {requirement.specifier}")
    if wrong:
        return Result(
            name="packages",
            level=Level.FAILED,
            found="; ".join(wrong),
            remedy="install voxray again: pip install --upgrade voxray (or make setup)",
        )
    agents, ray = version("livekit-agents"), version("ray")
    return Result(
        name="packages", level=Level.OK, found=f"livekit-agents {agents}, ray {ray} and the others"
    )


def check_ray() -> Result:
    """Check that Ray can be imported."""
    fault = _try_in_child("import ray; ray.__version__")
    if fault is None:
        return Result(name="ray", level=Level.OK, found="imports")
    return Result(
        name="ray",
        level=Level.FAILED,
        found=f"does not import: {fault}",
        remedy="install its wheel for this Python and platform: pip install --force-reinstall ray",
    )


def check_ray_environment(environment: Mapping[str, str]) -> Result:
    """Check that no variable of the shell takes away what live calls need of Ray."""
    other = [
        f"{name}={environment[name]} (should be {value})"
        for name, value in RAY_ENVIRONMENT.items()
        if environment.get(name, value) != value
    ]
    if other:
        return Result(
            name="ray environment",
            level=Level.WARNING,
            found="; ".join(other),
            remedy="unset these variables: voxray sets its own",
        )
    return Result(name="ray environment", level=Level.OK, found="nothing in the way")


def check_ray_authentication(environment: Mapping[str, str], address: str) -> Result:
    """Check whether Ray asks those who reach its ports for a token: they could run code.

    Args:
        environment: what says how Ray is protected.
        address: of the cluster to join; empty for a local Ray.
    """
    name = "ray authentication"
    how = authentication(environment)
    if how is Authentication.OFF:
        return Result(
            name=name,
            level=Level.WARNING,
            found="off (RAY_AUTH_MODE): whoever reaches Ray's ports runs code",
            remedy="unset RAY_AUTH_MODE, or set it to token",
        )
    if not address:
        source = "a fresh one for each start" if how is Authentication.FRESH else "as given"
        return Result(name=name, level=Level.OK, found=f"on, by a token ({source})")
    if how is Authentication.GIVEN:
        return Result(name=name, level=Level.OK, found="on, by the token of the environment")
    if (Path.home() / ".ray" / "auth_token").is_file():
        return Result(name=name, level=Level.OK, found="on, by the token in ~/.ray/auth_token")
    return Result(
        name=name,
        level=Level.WARNING,
        found=f"no token for the cluster at {address}",
        remedy="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, if the cluster asks for one",
    )


def check_tls(settings: TlsSettings) -> Result:
    """Check that the certificates of the gRPC ports are there and fit each other."""
    name = "tls"
    try:
        certificates = load_certificates(settings)
    except ConfigError as error:
        return Result(
            name=name,
            level=Level.FAILED,
            found=str(error),
            remedy="docs/security.md says how the three files are made",
        )
    if certificates is None:
        found = "off: gRPC ports ask for the app's token, and do not encrypt"
        return Result(name=name, level=Level.OK, found=found)
    found = f"{settings.cert} is good for {settings.server_name}, by both ends"
    return Result(name=name, level=Level.OK, found=found)


def check_livekit_server(environment: Mapping[str, str]) -> Result:
    """Check that the demo has a server to start."""
    name = "livekit-server"
    home = build_home(environment)
    try:
        program = find(home, environment=environment)
        if program is not None:
            return Result(name=name, level=Level.OK, found=f"{program} ({server_version(program)})")
        go = find_go(environment)
    except MissingPartError as error:
        # One that runs elsewhere is enough, except for the demo and the tests.
        level = Level.WARNING if environment.get("LIVEKIT_URL") else Level.FAILED
        found, _, remedy = str(error).partition("; ")
        return Result(name=name, level=level, found=found, remedy=remedy)
    return Result(
        name=name,
        level=Level.OK,
        found=f"none yet; `voxray demo` builds {PINNED_VERSION} with {go}",
    )


def check_engine(name: str, settings: str = "{}") -> Result:
    """Check that an inference engine finds its library and its model.

    Args:
        name: the engine's name.
        settings: what it is constructed with, a JSON object.
    """
    fault = _try_in_child(
        "import json, sys\n"
        "from voxray.pipelines.engines.registry import create_engine\n"
        "engine = create_engine(sys.argv[1], json.loads(sys.argv[2]))\n"
        "engine.load()\n"
        "engine.close()",
        name,
        settings,
    )
    if fault is None:
        return Result(name=f"engine {name}", level=Level.OK, found="loads")
    return Result(
        name=f"engine {name}",
        level=Level.FAILED,
        found=fault,
        remedy="install what it names, or leave it out of inference.groups",
    )


def check_port(settings: Settings) -> Result:
    """Check that the API's port is free."""
    host, port = settings.http.host, settings.http.port
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        return Result(
            name="port",
            level=Level.WARNING,
            found=f"{host}:{port} can't be used: {error.strerror or error}",
            remedy="end what listens there, or choose another: --http-port, http.port",
        )
    return Result(name="port", level=Level.OK, found=f"{host}:{port} is free")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Result:  # noqa: S108 - only measured
    """Check that Ray's object store fits into shared memory."""
    name = "shared memory"
    try:
        size = shutil.disk_usage(folder).total
    except OSError as error:
        return Result(
            name=name,
            level=Level.WARNING,
            found=f"{folder}: {error.strerror}",
            remedy="mount it as tmpfs: Ray writes to /tmp instead",
        )
    shown = f"{size / 2**20:.0f} MiB"
    if size < _SMALLEST_SHARED_MEMORY:
        return Result(
            name=name,
            level=Level.WARNING,
            found=f"{shown} in {folder}: Ray writes to /tmp instead",
            remedy="give the container more: --shm-size=1g, or an emptyDir with medium Memory",
        )
    return Result(name=name, level=Level.OK, found=shown)


def check_open_files() -> Result:
    """Check how many files a process may hold open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FEWEST_OPEN_FILES:
        return Result(
            name="open files",
            level=Level.WARNING,
            found=f"{soft} a process: some hundred calls need more",
            remedy=f"ulimit -n {_FEWEST_OPEN_FILES * 16}",
        )
    shown = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    return Result(name="open files", level=Level.OK, found=f"{shown} a process")


def settings_fault(error: VoxrayError) -> Result:
    """Return the result for settings that can't be read."""
    return Result(
        name="settings",
        level=Level.FAILED,
        found=str(error),
        remedy="docs/settings.md lists every setting",
    )


def _try_in_child(code: str, *arguments: str) -> str | None:
    """Run Python code in a process of its own; return None, or the last thing that it said."""
    try:
        done = subprocess.run(  # noqa: S603 - our own code above
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CHILD_DEADLINE_S,
            check=False,
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        )
    except subprocess.TimeoutExpired:
        return f"gave no answer within {_CHILD_DEADLINE_S:.0f} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    if not lines:
        return f"its process ended with status {done.returncode}"
    return re.sub(r"^voxray\.base\.errors\.\w+: ", "", lines[-1])
