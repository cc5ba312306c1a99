"""Runs a program under the stock worker and under voxray, and shows where they differ.

A *scene* is one room: the program tells what it observes there by datagrams, the test's own side
of the room is noted beside it. A *record* is what both saw, without ids that differ by nature.
"""

import asyncio
import difflib
import json
import os
import re
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from livekit import api, rtc

from tests.running_app import PROGRAMS, environment_for, free_port, voxray_app
from voxray.cli.home import build_home
from voxray.loadtest.child_process import kill_child, start_child
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install

DROP_IN = PROGRAMS / "drop_in"
# To end a hung scene only: on an idle machine none takes two seconds.
_SCENE_S = 60.0
_START_S = 90.0
_END_S = 60.0
# Scenes that play at once: the stock worker starts a process for each.
_AT_ONCE = 6

Play = Callable[["Scene"], Awaitable[None]]


class Observations:
    """What a program tells, in the order of each scene."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._facts: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def of(self, scene: str) -> list[tuple[str, Any]]:
        return self._facts[scene]

    async def until(self, scene: str, fact: str, times: int = 1) -> Any:
        """Return the value of a fact once the program has told it so often."""
        while len(told := [value for name, value in self._facts[scene] if name == fact]) < times:
            self._news.clear()
            await self._news.wait()
        return told[-1]

    def close(self) -> None:
        """Read what is left and stop."""
        self._read()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        while True:
            try:
                scene, fact, value = json.loads(self._socket.recv(65_536))
            except BlockingIOError:
                break
            self._facts[scene].append((fact, value))
        self._news.set()


@dataclass
class Worker:
    """A worker that runs a program, stock or ours.

    Attributes:
        name: `stock` or `voxray`.
        http: address of its HTTP server.
        log: its output so far.
        draining: set as it is told to drain.
    """

    name: str
    server: LiveKitServer
    observed: Observations
    http: str
    log: Callable[[], str]
    pid: int
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    def scene(self, name: str) -> "Scene":
        return Scene(self, name)

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of the output."""
        # The last line may still be written. Nothing may stand before an object: whoever collects
        # logs parses whole lines.
        whole = self.log().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in whole if line.startswith("{")]

    async def until_logged(
        self, name: str, enough: Callable[[list[dict[str, Any]]], bool]
    ) -> list[dict[str, Any]]:
        """Return the lines of a logger once there are enough."""
        while True:
            lines = [line for line in self.log_lines() if line.get("name") == name]
            if enough(lines):
                return lines
            # Nothing tells that a line was written; the next look is one interval away.
            await asyncio.sleep(0.1)


class Scene:
    """One room under one worker."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.worker = worker
        self.server = worker.server
        self.name = name
        self.notes: list[tuple[str, Any]] = []
        self._callers: list[Caller] = []
        self._api: api.LiveKitAPI | None = None

    def note(self, fact: str, value: object = None) -> None:
        """Note what the room's side saw."""
        self.notes.append((fact, value))

    @property
    def api(self) -> api.LiveKitAPI:
        if self._api is None:
            self._api = api.LiveKitAPI(self.server.url, self.server.api_key, self.server.api_secret)
        return self._api

    async def program(self, fact: str, times: int = 1) -> Any:
        return await self.worker.observed.until(self.name, fact, times)

    async def dispatch(self, agent_name: str, **fields: Any) -> str:
        """Dispatch an agent by the API; return the dispatch's id."""
        made = await self.api.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name=agent_name, room=self.name, **fields)
        )
        return made.id

    async def join(self, identity: str, **options: Any) -> "Caller":
        caller = Caller(self, identity)
        self._callers.append(caller)
        await caller.join(**options)
        return caller

    async def agents(self) -> list[Any]:
        listed = await self.api.room.list_participants(api.ListParticipantsRequest(room=self.name))
        return [each for each in listed.participants if each.kind == each.Kind.AGENT]

    async def job_status(self) -> list[str]:
        """Return the states of the jobs of this room's dispatches, as LiveKit has them."""
        dispatches = await self.api.agent_dispatch.list_dispatch(self.name)
        jobs = [job for dispatch in dispatches for job in dispatch.state.jobs]
        return [api.JobStatus.Name(job.state.status) for job in jobs]

    async def close_room(self) -> None:
        """End the room, and with it every job that still runs there."""
        try:
            await self.api.room.delete_room(api.DeleteRoomRequest(room=self.name))
        except api.TwirpError as error:
            if error.code != api.TwirpErrorCode.NOT_FOUND:
                raise

    async def aclose(self) -> None:
        for caller in self._callers:
            await caller.leave()
        if self._api is not None:
            await self._api.aclose()

    def record(self) -> list[str]:
        """Return what the program and then what the room saw, a line a fact."""
        told = self.worker.observed.of(self.name)
        return [
            *(_line("program", fact, value) for fact, value in told),
            *(_line("room", fact, value) for fact, value in self.notes),
        ]


class Caller:
    """A participant that the test plays."""

    def __init__(self, scene: Scene, identity: str) -> None:
        self.scene = scene
        self.identity = identity
        self.room = rtc.Room()
        self.left_for: str | None = None
        self._news = asyncio.Event()
        for event in (
            "participant_connected",
            "participant_disconnected",
            "participant_attributes_changed",
            "room_metadata_changed",
            "data_received",
            "disconnected",
        ):
            self.room.on(event, lambda *_: self._news.set())
        self.room.on("disconnected", self._on_disconnected)

    async def join(
        self, *, config: api.RoomConfiguration | None = None, name: str = "", metadata: str = ""
    ) -> None:
        server = self.scene.server
        token = (
            api.AccessToken(server.api_key, server.api_secret)
            .with_identity(self.identity)
            .with_name(name)
            .with_metadata(metadata)
            .with_grants(
                api.VideoGrants(room_join=True, room=self.scene.name, can_update_own_metadata=True)
            )
        )
        if config is not None:
            token = token.with_room_config(config)
        await self.room.connect(server.url, token.to_jwt())

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self.room.on(event, lambda *args: (handler(*args), self._news.set()))

    def tell(self) -> None:
        """Look again: something that is waited for may have changed."""
        self._news.set()

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Return what `holds` returns once it is true, asking after each event."""
        while not (value := holds()):
            self._news.clear()
            await self._news.wait()
        return value

    async def agent(self) -> rtc.RemoteParticipant:
        """Return the agent once it is in the room."""

        def find() -> rtc.RemoteParticipant | None:
            for each in self.room.remote_participants.values():
                if each.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
                    return each
            return None

        return await self.until(find)

    async def until_agent_left(self) -> None:
        await self.until(
            lambda: (
                not any(
                    each.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
                    for each in self.room.remote_participants.values()
                )
            )
        )

    async def leave(self) -> None:
        if self.room.isconnected():
            await self.room.disconnect()

    def _on_disconnected(self, reason: int) -> None:
        self.left_for = rtc.DisconnectReason.Name(reason)


class Proxy:
    """An HTTP proxy for plain HTTP: it passes requests on, upgrades to websockets included."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen; return the address."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there: asyncio.StreamWriter | None = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, url, rest = head.split(" ", 2)
            target = urlparse(url)
            assert target.hostname, f"not for a proxy: {method} {url}"
            self.passed.add(f"{method} {target.path}")
            back, there = await asyncio.open_connection(target.hostname, target.port or 80)
            # One request a connection: whatever follows on it would be unread.
            path = f"{target.path}?{target.query}" if target.query else target.path
            there.write(f"{method} {path} {_closing(rest)}".encode())
            await asyncio.gather(_pipe(reader, there), _pipe(back, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            if there is not None:
                there.close()


def _closing(head: str) -> str:
    """Ask for the end of the connection after the answer, unless it becomes a websocket."""
    if "upgrade: websocket" in head.lower():
        return head
    lines = [line for line in head.split("\r\n") if not line.lower().startswith("connection:")]
    return "\r\n".join([lines[0], "Connection: close", *lines[1:]])


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


_IDS = (
    (re.compile(r"\bagent-AJ_\w+"), "agent-<job>"),
    (re.compile(r"\bA[JDW]_\w+"), "<id>"),
    (re.compile(r"\b(RM|PA|TR)_\w+"), "<sid>"),
    # A room that ends takes its agent with it, and LiveKit tells the worker so: which of the two
    # the job hears of first is chance, under both workers.
    (re.compile(r'closing "(room disconnected|parent process shutdown)"'), "closing from outside"),
)


def _line(side: str, fact: str, value: object) -> str:
    text = f"{side}: {fact}" + ("" if value is None else f" {json.dumps(value, sort_keys=True)}")
    for pattern, shown in _IDS:
        text = pattern.sub(shown, text)
    return text


def differences(stock: list[str], ours: list[str]) -> str:
    """Return a diff from the stock worker's record to ours; empty when they are equal."""
    return "\n".join(difflib.unified_diff(stock, ours, "stock", "voxray", lineterm="", n=2))


@dataclass(frozen=True, kw_only=True)
class Production:
    """A program, its scenes, and what is done as the worker drains.

    Attributes:
        program: file name below `programs/drop_in/`.
        scenes: plays of the room's side; all run at once.
        closing: begins before the worker is told to drain; runs on until after it has ended.
        environment: variables of the program.
        proxied: an HTTP proxy stands at DROP_IN_PROXY; the scene `proxy` holds what it passed on.
    """

    program: str
    scenes: Mapping[str, Play]
    closing: Mapping[str, Play] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    proxied: bool = False


async def play(production: Production, folder: Path) -> dict[str, dict[str, list[str]]]:
    """Run a production under both workers at once; return the records by worker and scene."""
    binary = find_or_install(build_home(os.environ))
    stages = [("stock", stock_worker), ("voxray", our_worker)]
    results = await asyncio.gather(
        *(
            _play(production, folder / name, name, open_worker, binary)
            for name, open_worker in stages
        )
    )
    return {name: records for (name, _), records in zip(stages, results, strict=True)}


async def _play(
    production: Production,
    folder: Path,
    name: str,
    open_worker: Callable[..., Any],
    binary: Path,
) -> dict[str, list[str]]:
    folder.mkdir()
    async with LiveKitServer(binary) as server:
        observed = Observations(folder / "observed")
        proxy = Proxy()
        environment = {
            **production.environment,
            "DROP_IN_SOCKET": str(folder / "observed"),
        }
        if production.proxied:
            environment["DROP_IN_PROXY"] = await proxy.start()
        scenes: dict[str, Scene] = {}
        limit = asyncio.Semaphore(_AT_ONCE)
        try:
            async with open_worker(
                server, folder, DROP_IN / production.program, environment, observed
            ) as worker:

                async def run(scene_name: str, act: Play) -> None:
                    scene = scenes[scene_name] = worker.scene(scene_name)
                    async with limit:
                        try:
                            async with asyncio.timeout(_SCENE_S):
                                await act(scene)
                        except Exception as error:
                            scene.note("FAILED", f"{type(error).__name__}: {error}")
                        await scene.close_room()

                await asyncio.gather(*(run(*item) for item in production.scenes.items()))
                closing = [asyncio.create_task(run(*item)) for item in production.closing.items()]
                if closing:
                    # Each says when the drain may begin.
                    await asyncio.gather(
                        *(
                            asyncio.wait_for(observed.until(name, "ready"), _SCENE_S)
                            for name in production.closing
                        )
                    )
                # What waits for it runs only once the context is about to end.
                worker.draining.set()
            await asyncio.gather(*closing)
        finally:
            for scene in scenes.values():
                await scene.aclose()
            observed.close()
            await proxy.aclose()
        records = {scene_name: scene.record() for scene_name, scene in scenes.items()}
        records["worker"] = [_line("program", fact, value) for fact, value in observed.of("worker")]
        records["proxy"] = sorted(proxy.passed)
        (folder / "records.json").write_text(json.dumps(records, indent=1))
        return records


@asynccontextmanager
async def stock_worker(
    server: LiveKitServer,
    folder: Path,
    program: Path,
    environment: Mapping[str, str],
    observed: Observations,
) -> AsyncIterator[Worker]:
    """Run `python PROGRAM start` while the context is open; then drain it by SIGTERM."""
    port = free_port()
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = start_child(
            (sys.executable, str(program), "start"),
            output=output,
            environment={
                **environment_for(server, folder),
                **environment,
                "DROP_IN_PORT": str(port),
            },
            folder=folder,
        )
    try:
        async with asyncio.timeout(_START_S):
            # A program that logs little has a handler that tells.
            while b'"registered worker"' not in log.read_bytes() and not any(
                fact == "registered" for fact, _ in observed.of("worker")
            ):
                assert process.poll() is None, log.read_text()
                # Nothing tells that a line was written; the next look is one interval away.
                await asyncio.sleep(0.1)
        yield Worker(
            name="stock",
            server=server,
            observed=observed,
            http=f"http://127.0.0.1:{port}",
            log=lambda: log.read_text(errors="replace"),
            pid=process.pid,
        )
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, _END_S)
        assert code == 0, (code, log.read_text())
    finally:
        kill_child(process)


@asynccontextmanager
async def our_worker(
    server: LiveKitServer,
    folder: Path,
    program: Path,
    environment: Mapping[str, str],
    observed: Observations,
) -> AsyncIterator[Worker]:
    """Run `voxray start PROGRAM` while the context is open; then drain it by Ctrl-C."""
    async with voxray_app(
        server,
        folder,
        program,
        "--log-format",
        "json",
        environment={
            **environment,
            "VOXRAY_HOSTS__MAX_HOSTS": "1",
            "VOXRAY_HOSTS__SESSIONS_PER_HOST": "50",
        },
    ) as app:
        yield Worker(
            name="voxray",
            server=server,
            observed=observed,
            http=app.api,
            log=lambda: app.output,
            pid=app.process.pid,
        )
