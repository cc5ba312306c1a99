"""`voxray start` as a user runs it, in a process of its own, for end-to-end tests."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from voxray.loadtest.child_process import kill_child, start_child
from voxray.loadtest.livekit_server import LiveKitServer

ROOT = Path(__file__).resolve().parent.parent
TIMETABLE = ROOT / "examples" / "timetable" / "agent.py"
PROGRAMS = ROOT / "tests" / "integration" / "programs"


def environment_for(server: LiveKitServer | None, home: Path) -> dict[str, str]:
    """Return a user's environment: a home of its own, and the keys of a LiveKit server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LIVEKIT_", "VOXRAY_", "RAY_"))
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    keys = (
        {
            "LIVEKIT_URL": server.url,
            "LIVEKIT_API_KEY": server.api_key,
            "LIVEKIT_API_SECRET": server.api_secret,
        }
        if server
        else {}
    )
    return {**kept, **keys, "HOME": str(home), "VOXRAY_RAY__DASHBOARD": "false"}


def free_port() -> int:
    """Return a port that is free, and that the system gives to nobody before it is used.

    One that the system chooses may be the source of another's connection a moment later; below
    its own range (from 32768) and above Ray's (up to 19999) ports are only taken by name.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RunningApp:
    """A started app: its API, its output, and its processes."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.api = f"http://127.0.0.1:{port}"
        self.log = log
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    async def get(self, path: str, **params: str) -> Any:
        async with self._session.get(f"{self.api}{path}", params=params) as response:
            assert response.status == 200, (path, response.status, await response.text())
            if "json" in response.content_type:
                return await response.json()
            return await response.text()

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = await self.get("/status")
        return status

    async def events(self, *kinds: str) -> list[dict[str, Any]]:
        page = await self.get("/events", after="0", wait="0")
        return [event for event in page["events"] if not kinds or event["type"] in kinds]

    async def until_event(
        self,
        kind: str,
        matches: Callable[[dict[str, Any]], bool] = lambda _: True,
        timeout_s: float = 30.0,
    ) -> dict[str, Any]:
        """Return the first event of a kind that matches, waiting for it."""
        cursor = "0"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    page = await self.get("/events", after=cursor, wait="5")
                    for event in page["events"]:
                        if event["type"] == kind and matches(event):
                            found: dict[str, Any] = event
                            return found
                    cursor = str(page["cursor"])
        except TimeoutError:
            raise AssertionError(
                f"no {kind} within {timeout_s} s; output:\n{self.output}"
            ) from None

    async def until_status(
        self, matches: Callable[[dict[str, Any]], bool], timeout_s: float = 30.0
    ) -> dict[str, Any]:
        """Return the first status that matches; looks again after each event."""
        cursor = "0"
        try:
            async with asyncio.timeout(timeout_s):
                while not matches(status := await self.status()):
                    page = await self.get("/events", after=cursor, wait="1")
                    cursor = str(page["cursor"])
                return status
        except TimeoutError:
            raise AssertionError(f"status never fitted: {await self.status()}") from None

    async def until_back(self, old_pid: int, timeout_s: float = 30.0) -> dict[str, Any]:
        """Return the status once another dispatcher than `old_pid` answers."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                status = await self.status()
            except aiohttp.ClientError:
                status = None
            if status and status["dispatchers"][0]["pid"] != old_pid:
                return status
            # Nothing tells that a port is open again; the next look is one interval away.
            await asyncio.sleep(0.1)
        raise AssertionError(f"no dispatcher came back within {timeout_s} s:\n{self.output}")

    async def until_said(self, text: str, timeout_s: float = 60.0) -> None:
        """Wait until the command has printed something."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            assert time.monotonic() < deadline, f"never said {text!r}:\n{self.output}"
            # Nothing tells that a file grew; the next look is one interval away.
            await asyncio.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Return the command's process and everything below it."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    async def interrupt(self, timeout_s: float = 60.0) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.to_thread(self.process.wait, timeout_s)

    async def aclose(self) -> None:
        await self._session.close()


@asynccontextmanager
async def voxray_app(
    server: LiveKitServer,
    home: Path,
    program: Path = TIMETABLE,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 90.0,
    port: int = 0,
    ends: bool = True,
    command: str = "start",
) -> AsyncIterator[RunningApp]:
    """Run `voxray start`, or another command, until it is ready.

    Afterwards end it by Ctrl-C, and check that nothing is left. With `ends` false the command is
    killed instead, and what it leaves is the test's to see to.
    """
    port = port or free_port()
    log = home / "start.log"
    line = (
        sys.executable,
        "-m",
        "voxray",
        command,
        str(program),
        "--http-port",
        str(port),
        *arguments,
    )
    with log.open("wb") as output:
        process = start_child(
            line,
            output=output,
            environment={**environment_for(server, home), **(environment or {})},
            folder=home,
        )
    app = RunningApp(process, port, log)
    family: list[psutil.Process] = []
    try:
        await _until_ready(app, timeout_s)
        yield app
        if ends and process.poll() is None:
            family = app.processes()
            code = await app.interrupt()
            assert code == 0, (code, app.output)
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=10)
        assert not alive, f"left behind: {alive}"
    finally:
        await app.aclose()
        kill_child(process)
        for left in family:
            if left.is_running():
                left.kill()


async def _until_ready(app: RunningApp, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if app.process.poll() is not None:
            raise AssertionError(f"start ended ({app.process.returncode}):\n{app.output}")
        try:
            async with app._session.get(f"{app.api}/readyz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        # Nothing tells that a port is open; the next look is one interval away.
        await asyncio.sleep(0.2)
    raise AssertionError(f"not ready after {timeout_s} s:\n{app.output}")
