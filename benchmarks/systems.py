"""The systems that are compared, each in a process tree of its own, and the machine they run on."""

import asyncio
import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from voxray.base.errors import DeadlineError
from voxray.loadtest.access import LiveKitAccess
from voxray.loadtest.child_process import kill_child, start_child

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
EXAMPLE = ROOT / "examples" / "timetable" / "agent.py"
STOCK = ROOT / "benchmarks" / "programs" / "stock_timetable.py"
OPENRTC = ROOT / "benchmarks" / "programs" / "openrtc_timetable.py"
# Between loads: calls end, pools refill, registrations spread.
SETTLE_S = 4.0
_START_DEADLINE_S = 120.0
# Bytecode caches make starts fair; what the callers' native runtime prints is theirs alone.
_KEPT_BACK = frozenset({"PYTHONDONTWRITEBYTECODE", "RUST_LOG"})


@dataclass(frozen=True, kw_only=True)
class System:
    """What is measured.

    Attributes:
        command: starts it; SIGINT ends it.
        environment: variables that it needs.
        ready: what it prints once it takes jobs.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: str


def systems() -> tuple[System, ...]:
    """Return voxray and the stock worker's two kinds, in the order in which they take turns."""
    stock = (sys.executable, str(STOCK), "start")
    return (
        System(
            name="stock-process",
            command=stock,
            environment={"STOCK_EXECUTOR": "process"},
            ready="registered worker",
        ),
        System(
            name="voxray",
            command=(sys.executable, "-m", "voxray", "start", str(EXAMPLE), "--http-port", "0"),
            # One host for each core, as the documentation advises: a third one would start in the
            # middle of a burst that two can carry.
            environment={
                "VOXRAY_RAY__DASHBOARD": "false",
                "VOXRAY_HOSTS__MAX_HOSTS": str(max(2, os.cpu_count() or 1)),
            },
            ready="Ctrl-C drains",
        ),
        System(
            name="stock-thread",
            command=stock,
            environment={"STOCK_EXECUTOR": "thread"},
            ready="registered worker",
        ),
    )


def openrtc(python: Path) -> System:
    """Return OpenRTC with all calls in one process, run by the Python of its own environment."""
    return System(
        name="openrtc",
        command=(str(python), str(OPENRTC), "start"),
        environment={},
        ready="registered worker",
    )


@asynccontextmanager
async def running(system: System, access: LiveKitAccess) -> AsyncIterator[int]:
    """Run a system until it is registered at LiveKit; yield its process id."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in _KEPT_BACK},
        "LIVEKIT_URL": access.url,
        "LIVEKIT_API_KEY": access.api_key,
        "LIVEKIT_API_SECRET": access.api_secret,
        **system.environment,
    }
    scratch = RESULTS / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / f"{system.name}.log"
    with path.open("wb") as log:
        child = start_child(system.command, output=log, environment=environment, folder=ROOT)
        try:
            await _until_logged(path, system.ready, child)
            # LiveKit gives a room that comes within milliseconds of a registration to nobody.
            await asyncio.sleep(SETTLE_S)
            yield child.pid
        finally:
            child.send_signal(signal.SIGINT)
            try:
                # What does not end by itself has been measured all the same.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(child.wait, 60)
            finally:
                kill_child(child)


async def _until_logged(path: Path, words: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline:
        if words in path.read_text(errors="replace"):
            return
        if child.poll() is not None:
            break
        await asyncio.sleep(0.25)
    raise DeadlineError(f"{path.stem} was not up within {_START_DEADLINE_S:g} s; see {path}")


def machine() -> dict[str, Any]:
    """Describe the machine, so that a figure is never read without it."""
    packages = ("livekit-agents", "livekit", "ray", "voxray")
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": {name: metadata.version(name) for name in packages},
    }
