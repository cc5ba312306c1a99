"""The registration at LiveKit that outlives its websockets: dials, reconnects, gives up.

What a message means is decided in `protocol.py`, what a failed dial means in `dialing.py`;
`worker_socket.py` runs one open websocket.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import aiohttp

from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import ConfigError, ConnectionFailedError, CredentialsError, VoxrayError
from voxray.base.ids import JobId
from voxray.base.lifecycle import TaskOwner
from voxray.base.settings import LiveKitSettings
from voxray.base.timing import Backoff, Clock, SystemClock
from voxray.dispatcher.dialing import DialOptions, dial, display_url
from voxray.dispatcher.messages import RegisterWorkerRequest
from voxray.dispatcher.protocol import (
    Intent,
    ProtocolCounters,
    ProtocolState,
    Registered,
    WorkerProtocol,
)
from voxray.dispatcher.worker_socket import SocketEvent, SocketTimes, WorkerSocket

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Disconnected:
    """A connection that had been registered is gone; the next one is dialled already."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ConnectionEnded:
    """There will be no more connection: the last event of all."""

    error: VoxrayError


WorkerEvent: TypeAlias = SocketEvent | Disconnected | ConnectionEnded


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """How the connection is made.

    Attributes:
        backoff: pauses between attempts; `rng` gives their jitter.
    """

    dial: DialOptions = field(default_factory=DialOptions)
    times: SocketTimes = field(default_factory=SocketTimes)
    backoff: Backoff = field(default_factory=Backoff)
    clock: Clock = field(default_factory=SystemClock)
    rng: random.Random = field(default_factory=random.Random)


@dataclass(frozen=True, kw_only=True)
class ConnectionHealth:
    """The connection as the health page and the metrics see it.

    Attributes:
        failures: failed attempts in a row.
        round_trip_s: of the last answered ping on this connection, or None.
        error: what ended the connection for good, or None.
    """

    state: ProtocolState
    worker_id: str
    failures: int
    round_trip_s: float | None
    error: VoxrayError | None
    counters: ProtocolCounters


class WorkerConnection:
    """One worker at LiveKit, over any number of websockets.

    Events are handed over on the event loop, in the order in which they were read, before the next
    message is read.
    """

    def __init__(
        self,
        settings: LiveKitSettings,
        program: ProgramInfo,
        on_event: Callable[[WorkerEvent], None],
        *,
        active_jobs: Callable[[], Iterable[JobId]] = tuple,
        options: ConnectionOptions | None = None,
    ) -> None:
        """Prepare a connection; `start` opens it.

        Args:
            settings: address and keys. Its `max_retry`, if set, counts before the program's own.
            program: what is registered.
            on_event: takes each event; must not block.
            active_jobs: the jobs that run here, told to LiveKit after each registration.
            options: times, backoff, clock.
        """
        self._settings = settings
        self._on_event = on_event
        self._options = options or ConnectionOptions()
        explicit = "max_retry" in settings.model_fields_set
        self._max_retry = settings.max_retry if explicit else program.max_retry
        self._protocol = WorkerProtocol(_registration(program), active_jobs)
        self._tasks = TaskOwner("worker-connection", self._on_bug)
        self._socket: WorkerSocket | None = None
        self._registered = False
        self._failures = 0
        self._error: VoxrayError | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def health(self) -> ConnectionHealth:
        """A snapshot."""
        return ConnectionHealth(
            state=self._protocol.state,
            worker_id=self._protocol.worker_id,
            failures=self._failures,
            round_trip_s=self._socket.round_trip_s if self._socket is not None else None,
            error=self._error,
            counters=self._protocol.counters,
        )

    async def start(self) -> None:
        """Begin to connect; what comes of it arrives as events.

        Raises:
            ConfigError: the address or a key is missing.
        """
        self._settings.require_complete()
        self._tasks.spawn("run", self._run())

    def send(self, intent: Intent) -> None:
        """Send a message as soon as possible; see `WorkerProtocol.send` for what is kept."""
        self._protocol.send(intent)
        if self._socket is not None:
            self._socket.wake()

    async def confirm(self) -> None:
        """Wait a moment until LiveKit has taken what was sent so far."""
        if self._socket is not None:
            await self._socket.confirm(self._options.times.confirm_s)

    async def aclose(self) -> None:
        """Send what waits, close the websocket, and give no more events. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="worker-connection:close")
        # Whoever waits may be cancelled; the close itself goes on.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._socket is not None:
            try:
                await self._socket.flush(self._options.dial.close_s)
            except TimeoutError:
                logger.warning("livekit did not take our last messages; they are dropped")
        await self._tasks.aclose()
        self._protocol.close()

    async def _run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._serve_once(session)
                except (ConfigError, ConnectionFailedError) as error:
                    if not self._may_retry(error):
                        return
                pause_s = self._options.backoff.delay_s(self._failures, self._options.rng)
                await asyncio.sleep(pause_s)

    async def _serve_once(self, session: aiohttp.ClientSession) -> None:
        """Make one connection and use it until it breaks.

        Raises:
            ConfigError, ConnectionFailedError: as `dial`; or why the connection broke.
        """
        ws = await dial(session, self._settings, self._options.dial)
        options = self._options
        self._socket = WorkerSocket(ws, self._protocol, self._handle, options.times, options.clock)
        self._registered = False
        try:
            await self._socket.serve()
        except ConnectionFailedError as error:
            if self._registered:
                self._tell(Disconnected(reason=str(error)))
            raise
        finally:
            self._socket = None

    def _handle(self, event: SocketEvent) -> None:
        if isinstance(event, Registered):
            self._registered = True
            self._failures = 0
            logger.info(
                "registered at livekit",
                extra={
                    "worker_id": event.worker_id,
                    "url": display_url(self._settings.url),
                    "region": event.region,
                    "server_version": event.server_version,
                    "reconnect": event.reconnect,
                },
            )
        self._tell(event)

    def _may_retry(self, error: VoxrayError) -> bool:
        """Count a failure; end for good if no further attempt is to be made."""
        self._failures += 1
        # A LiveKit that was there once may be restarting behind a proxy that answers 404.
        never_there = isinstance(error, ConfigError) and not self._protocol.worker_id
        if never_there or isinstance(error, CredentialsError):
            self._end(error)
            return False
        if self._failures > self._max_retry:
            self._end(
                ConnectionFailedError(
                    f"gave up on livekit after {self._failures} failed attempts in a row; "
                    f"the last one: {error}"
                )
            )
            return False
        logger.warning(
            "no connection to livekit; trying again",
            extra={
                "reason": str(error),
                "failures": self._failures,
                "max_retry": self._max_retry,
            },
        )
        return True

    def _end(self, error: VoxrayError) -> None:
        self._error = error
        logger.error("the connection to livekit ended", extra={"reason": str(error)})
        self._tell(ConnectionEnded(error=error))

    def _tell(self, event: WorkerEvent) -> None:
        if self._closing is not None:
            return
        try:
            self._on_event(event)
        except Exception:
            # A fault in handling one event must not cut every other job off from LiveKit.
            logger.exception("event was not handled", extra={"event": type(event).__name__})

    def _on_bug(self, task: str, error: BaseException) -> None:
        # Without its task the app would be deaf: that must not pass unnoticed.
        logger.error("task failed", extra={"task": task}, exc_info=error)
        self._end(VoxrayError(f"the connection to livekit failed: {type(error).__name__}: {error}"))


def _registration(program: ProgramInfo) -> RegisterWorkerRequest:
    return RegisterWorkerRequest(
        worker_type=program.worker_type,
        agent_name=program.agent_name,
        version=program.sdk_version,
        permissions=program.permissions,
        deployment=program.deployment,
    )
