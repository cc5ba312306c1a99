"""The worker's registration: kept up over the whole life of the dispatcher.

A connection ends for good when LiveKit stays out of reach, or when the program registers as another
one or is to be reached by another proxy; here the next one is made. There is one at a time: an old
one is closed before the new one begins.
"""

import asyncio
from collections.abc import Callable, Iterable

from voxray.actors.contracts import ProgramInfo
from voxray.base.ids import JobId
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.connection import (
    ConnectionOptions,
    Disconnected,
    WorkerConnection,
    WorkerEvent,
)
from voxray.dispatcher.dialing import DialOptions
from voxray.dispatcher.protocol import Intent

PAUSE_S = 10.0
"""Between giving LiveKit up (after `max_retry` attempts) and beginning anew, while calls go on."""
CHANGED = "the program registers as another one"


class Registration:
    """One worker at LiveKit, over any number of connections."""

    def __init__(
        self,
        settings: LiveKitSettings,
        program: ProgramInfo,
        dial: DialOptions,
        on_event: Callable[[WorkerEvent], None],
        *,
        active_jobs: Callable[[], Iterable[JobId]] = tuple,
        pause_s: float = PAUSE_S,
    ) -> None:
        """Prepare; `start` registers.

        Args:
            settings: address and keys of the server.
            program: what is registered.
            dial: how the websocket is opened.
            on_event: takes each event of whatever connection.
            active_jobs: the jobs that run here, told to LiveKit after each registration.
            pause_s: before another attempt once LiveKit was given up.
        """
        self._settings = settings
        self._program = program
        self._dial = dial
        self._on_event = on_event
        self._active_jobs = active_jobs
        self._pause_s = pause_s
        self._changing = asyncio.Lock()
        self._closed = False
        self._connection = self._new()

    async def start(self) -> None:
        """Begin to connect.

        Raises:
            ConfigError: the address or a key is missing.
        """
        await self._connection.start()

    def send(self, intent: Intent) -> None:
        """Send a message on the present connection."""
        self._connection.send(intent)

    async def confirm(self) -> None:
        """Wait a moment until LiveKit has taken what was sent so far."""
        await self._connection.confirm()

    def follow(self, program: ProgramInfo, dial: DialOptions) -> bool:
        """Take a new version of the program; return whether LiveKit has to hear of it."""
        before = _told(self._program), self._dial
        self._program, self._dial = program, dial
        return before != (_told(program), dial)

    async def begin_anew(self) -> None:
        """Register again, as the program is now."""
        async with self._changing:
            await self._connection.aclose()
            if not self._closed:
                # What was offered on the old connection is forgotten there.
                self._on_event(Disconnected(reason=CHANGED))
                await self._connect()

    async def try_again(self) -> None:
        """Begin anew after LiveKit was given up."""
        async with self._changing:
            await self._connection.aclose()
            await asyncio.sleep(self._pause_s)
            await self._connect()

    async def aclose(self) -> None:
        """Send what waits, and close. Idempotent."""
        self._closed = True
        await self._connection.aclose()

    async def _connect(self) -> None:
        if not self._closed:
            self._connection = self._new()
            await self._connection.start()

    def _new(self) -> WorkerConnection:
        return WorkerConnection(
            self._settings,
            self._program,
            self._on_event,
            active_jobs=self._active_jobs,
            options=ConnectionOptions(dial=self._dial),
        )


def _told(program: ProgramInfo) -> tuple[str, int, bytes, str]:
    """Return what LiveKit is told of a program when we register."""
    return program.agent_name, program.worker_type, program.permissions, program.deployment
