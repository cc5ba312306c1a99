"""One open websocket to LiveKit: reads, writes and keeps it alive until it breaks."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import aiohttp

from voxray.base.errors import ConnectionFailedError, ProtocolError
from voxray.base.lifecycle import TaskOwner
from voxray.base.timing import Clock
from voxray.dispatcher.messages import (
    AvailabilityRequest,
    JobAssignment,
    JobTermination,
    UnknownMessage,
    WorkerPing,
    WorkerPong,
)
from voxray.dispatcher.protocol import ProtocolState, Registered, WorkerProtocol

logger = logging.getLogger(__name__)

# Repetitions of our load for each ping: one every 10 s by default.
_STATUSES_PER_PING = 4

SocketEvent: TypeAlias = Registered | AvailabilityRequest | JobAssignment | JobTermination


@dataclass(frozen=True, kw_only=True)
class SocketTimes:
    """Times of an open websocket.

    Attributes:
        register_s: longest wait for the answer to a registration.
        status_s: pause between repetitions of our load (`UPDATE_STATUS_INTERVAL` of
            livekit-agents); every fourth goes with a ping.
        frame_s: longest time without a whole frame; whoever is there answers a websocket ping
            every 10 s (`DialOptions.heartbeat_s`). A frame that stops in the middle swallows all
            that comes after it.
        confirm_s: longest wait for the word that LiveKit has taken our messages.
    """

    register_s: float = 10.0
    status_s: float = 2.5
    frame_s: float = 25.0
    confirm_s: float = 0.5


class WorkerSocket:
    """Moves bytes between an open websocket and the protocol."""

    def __init__(
        self,
        ws: aiohttp.ClientWebSocketResponse,
        protocol: WorkerProtocol,
        on_event: Callable[[SocketEvent], None],
        times: SocketTimes,
        clock: Clock,
    ) -> None:
        self._ws = ws
        self._protocol = protocol
        self._on_event = on_event
        self._times = times
        self._clock = clock
        self._wake = asyncio.Event()
        self._flushed = asyncio.Event()
        self._registered = asyncio.Event()
        self._ping_sent_s = 0.0
        self._ping_ms = self._kept_alive_ms = 0
        self._confirming: dict[int, asyncio.Event] = {}
        self._confirms = True
        self.round_trip_s: float | None = None
        """Seconds from the last answered ping to its pong; None before."""

    def wake(self) -> None:
        """The protocol has something to send."""
        self._flushed.clear()
        self._wake.set()

    async def flush(self, timeout_s: float) -> None:
        """Wait until the protocol's messages are written.

        Raises:
            TimeoutError: the other side did not take them.
        """
        self.wake()
        async with asyncio.timeout(timeout_s):
            await self._flushed.wait()

    async def confirm(self, timeout_s: float) -> None:
        """Wait until LiveKit has taken what was sent so far: it handles messages in their order.

        One that does not answer in time is waited for no longer, and not again on this connection
        if it never answered such a ping.
        """
        if not self._confirms or self._protocol.state is not ProtocolState.REGISTERED:
            return
        stamp = self._stamp()
        taken = self._confirming[stamp] = asyncio.Event()
        self._protocol.send(WorkerPing(timestamp_ms=stamp, counts=False))
        self.wake()
        try:
            async with asyncio.timeout(timeout_s):
                await taken.wait()
        except TimeoutError:
            self._confirms = self.round_trip_s is not None
        finally:
            del self._confirming[stamp]

    async def serve(self) -> NoReturn:
        """Register and work until the connection breaks, then close it.

        Raises:
            ConnectionFailedError: always, with the reason.
        """
        # A pump's failure is raised here: it has nobody else to be reported to.
        pumps = TaskOwner("worker-socket", lambda *_: None)
        self._protocol.connected()
        try:
            tasks = [
                pumps.spawn("read", self._read()),
                pumps.spawn("write", self._write()),
                pumps.spawn("keep-alive", self._keep_alive()),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task in done:
                    task.result()
        finally:
            await pumps.aclose()
            self._protocol.disconnected()
            await self._ws.close()
        raise AssertionError("a pump ended without saying why")

    async def _read(self) -> NoReturn:
        try:
            async with asyncio.timeout(self._times.register_s):
                while self._protocol.state is ProtocolState.REGISTERING:
                    self._take(await self._receive())
        except TimeoutError as error:
            raise ConnectionFailedError(
                f"livekit did not answer our registration within {self._times.register_s:g} s"
            ) from error
        except ProtocolError as error:
            # Nothing can come of a connection that begins with something else.
            raise ConnectionFailedError(f"not registered: {error}") from error
        while True:
            try:
                self._take(await self._receive())
            except ProtocolError as error:
                logger.warning("ignored a message of livekit", extra={"reason": str(error)})
            # A burst is in the buffer at once and `receive` does not wait then: without a turn for
            # the writer, the first answer would leave after the last message was handled.
            await asyncio.sleep(0)

    async def _receive(self) -> aiohttp.WSMessage:
        """Return the next message that is no ping or pong of the websocket."""
        while True:
            message = await self._frame()
            if message.type is aiohttp.WSMsgType.PING:
                await self._pong(message)
            elif message.type is not aiohttp.WSMsgType.PONG:
                return message

    async def _frame(self) -> aiohttp.WSMessage:
        try:
            async with asyncio.timeout(self._times.frame_s):
                return await self._ws.receive()
        except TimeoutError as error:
            raise ConnectionFailedError(
                "the connection to livekit broke: "
                f"no whole frame came within {self._times.frame_s:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionFailedError(
                f"the connection to livekit broke on a read: {type(error).__name__}"
            ) from error

    async def _pong(self, ping: aiohttp.WSMessage) -> None:
        try:
            await self._ws.pong(ping.data)
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionFailedError(
                f"the connection to livekit broke on a pong: {type(error).__name__}"
            ) from error

    def _take(self, message: aiohttp.WSMessage) -> None:
        """Take one websocket message.

        Raises:
            ConnectionFailedError: it is the end of the connection.
            ProtocolError: it is none that a worker gets.
        """
        match message.type:
            case aiohttp.WSMsgType.BINARY:
                for event in self._protocol.receive(message.data):
                    if isinstance(event, WorkerPong):
                        self._ponged(event.last_timestamp_ms)
                    elif isinstance(event, UnknownMessage):
                        logger.debug("ignored a message of livekit", extra={"kind": event.kind})
                    else:
                        if isinstance(event, Registered):
                            self._registered.set()
                        self._on_event(event)
            case aiohttp.WSMsgType.TEXT:
                self._protocol.receive_text()
            case aiohttp.WSMsgType.ERROR:
                raise ConnectionFailedError(
                    f"the connection to livekit broke: {type(message.data).__name__}"
                )
            case _:
                raise ConnectionFailedError(
                    f"the connection to livekit was closed with code {self._ws.close_code}"
                )

    def _stamp(self) -> int:
        """Return the time of a ping; no two have the same."""
        self._ping_ms = max(self._ping_ms + 1, int(self._clock.wall() * 1000))
        return self._ping_ms

    def _ponged(self, stamp: int) -> None:
        if stamp == self._kept_alive_ms:
            self.round_trip_s = self._clock.monotonic() - self._ping_sent_s
        for sent, taken in self._confirming.items():
            # A later ping may have taken the place of an earlier one that was not sent yet.
            if sent <= stamp:
                taken.set()

    async def _write(self) -> NoReturn:
        while True:
            self._wake.clear()
            try:
                while messages := self._protocol.take():
                    for data in messages:
                        await self._ws.send_bytes(data)
            except (aiohttp.ClientError, OSError) as error:
                # Job updates that are lost here are of jobs that LiveKit forgets now anyway.
                raise ConnectionFailedError(
                    f"the connection to livekit broke on a write: {type(error).__name__}"
                ) from error
            self._flushed.set()
            await self._wake.wait()

    async def _keep_alive(self) -> NoReturn:
        """Repeat our load, and ping the worker service behind whatever proxy answers for it."""
        await self._registered.wait()
        ticks = 0
        while not self._protocol.silent:
            if ticks % _STATUSES_PER_PING == 0:
                self._ping_sent_s = self._clock.monotonic()
                self._kept_alive_ms = self._stamp()
                self._protocol.send(WorkerPing(timestamp_ms=self._kept_alive_ms))
            self._protocol.repeat_status()
            self.wake()
            ticks += 1
            await asyncio.sleep(self._times.status_s)
        raise ConnectionFailedError("the connection to livekit broke: it answers no pings")
