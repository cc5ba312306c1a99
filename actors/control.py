"""The control stream: a process reports what happens in it, and its watchers learn at once.

One unary request opens a stream of reports, as JSON (`actors.contracts`). The first is a
snapshot, then come changes as they happen and a heartbeat at a fixed pace. A stream that breaks
says that the process is gone.
"""

import asyncio
import contextlib
import hmac
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from pydantic import TypeAdapter, ValidationError

from voxray.actors.contracts import Report
from voxray.base.errors import ConnectionFailedError
from voxray.base.lifecycle import TaskOwner
from voxray.base.tls import Certificates
from voxray.pipelines.grpc_security import listen, open_channel

logger = logging.getLogger(__name__)

SERVICE = "voxray.control.v1.Control"
_METHOD = "Watch"
_REPORTS: TypeAdapter[Report] = TypeAdapter(Report)
# A watcher that lags so far behind is cut off; it comes back and starts from a snapshot.
_QUEUE_LIMIT = 1000
# A replica has all dispatchers of the app (16 at most) as watchers, and for a moment the successor
# of each beside it.
_MAX_WATCHERS = 32
_STOP_GRACE_S = 0.2

SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    # A watcher behind a dead network is found within 7 s.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
)
_CLIENT_OPTIONS = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A broken stream is news for the caller: nothing is tried again below it, and no connection
    # state of an earlier attempt delays the next.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
)


class _Watcher:
    """What one stream still has to send. `put` may be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.idle = threading.Event()
        self.idle.set()
        self.overrun = False

    def put(self, report: bytes) -> None:
        if len(self._waiting) >= _QUEUE_LIMIT:
            self.overrun = True
        else:
            self.idle.clear()
            self._waiting.append(report)
        with contextlib.suppress(RuntimeError):  # The server's loop is closed: so is the stream.
            self._loop.call_soon_threadsafe(self._wake.set)

    async def take(self) -> list[bytes]:
        """Return what waits, in order; nothing once the watcher was too slow."""
        while not self._waiting:
            await self._wake.wait()
            self._wake.clear()
        if self.overrun:
            return []
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def sent(self) -> None:
        """Note that what was taken is written."""
        if not self._waiting:
            self.idle.set()


class ReportHub:
    """Hands the reports of one process to its watchers. `publish` may be called anywhere.

    `attach` says what a new watcher is told first; until then watchers are refused.
    """

    def __init__(self, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._lock = threading.Lock()
        self._watchers: set[_Watcher] = set()
        self._snapshot: Callable[[], Sequence[Report]] | None = None
        self._heartbeat: Callable[[int], Report] | None = None
        self._tasks = TaskOwner("report-hub")

    def attach(
        self,
        *,
        snapshot: Callable[[], Sequence[Report]],
        heartbeat: Callable[[int], Report],
    ) -> None:
        """Say where reports come from; both are called on the hub's loop and must be quick."""
        self._snapshot = snapshot
        self._heartbeat = heartbeat

    async def start(self) -> None:
        """Begin the heartbeats on the running loop."""
        self._tasks.spawn("heartbeat", self._beat())

    async def aclose(self) -> None:
        """End the heartbeats. Idempotent and safe before start."""
        await self._tasks.aclose()

    def publish(self, report: Report) -> None:
        """Send a report to all watchers. Never blocks."""
        data = _REPORTS.dump_json(report)
        with self._lock:
            for watcher in self._watchers:
                watcher.put(data)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all watchers were sent what was published; not on the hub's loop."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            watchers = list(self._watchers)
        return all(each.idle.wait(max(0.0, deadline - time.monotonic())) for each in watchers)

    def handler(self, token: str | None) -> grpc.GenericRpcHandler:
        """Return the gRPC handler of the service.

        Args:
            token: what callers bring as `authorization: Bearer ...`; None trusts everybody.
        """
        expected = None if token is None else f"Bearer {token}".encode()

        async def watch(_: bytes, context: grpc.aio.ServicerContext) -> None:
            if expected is not None and not hmac.compare_digest(_credentials(context), expected):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token")
            if self._snapshot is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the process is starting")
            if len(self._watchers) >= _MAX_WATCHERS:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MAX_WATCHERS} watchers are connected"
                )
            await self._serve(context)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the watcher reads too slowly")

        return grpc.method_handlers_generic_handler(
            SERVICE, {_METHOD: grpc.unary_stream_rpc_method_handler(watch)}
        )

    async def _serve(self, context: grpc.aio.ServicerContext) -> None:
        """Write reports until the watcher is too slow, or until it is gone (a cancellation)."""
        watcher = _Watcher()
        with self._lock:
            # Together, so that nothing is missed: a change may be told twice, but never backwards.
            for report in self._snapshot() if self._snapshot is not None else ():
                watcher.put(_REPORTS.dump_json(report))
            self._watchers.add(watcher)
        try:
            while reports := await watcher.take():
                for data in reports:
                    await context.write(data)
                watcher.sent()
        finally:
            with self._lock:
                self._watchers.discard(watcher)
            watcher.idle.set()

    async def _beat(self) -> None:
        sequence = 0
        while True:
            if self._heartbeat is not None:
                sequence += 1
                self.publish(self._heartbeat(sequence))
            await asyncio.sleep(self._heartbeat_s)


class ControlServer:
    """A gRPC server for a hub alone. All of it runs on the loop that `start` is awaited on."""

    def __init__(
        self,
        hub: ReportHub,
        *,
        token: str | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._hub = hub
        self._token = token
        self._certificates = certificates
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str, port: int = 0) -> int:
        """Listen, begin the heartbeats, and return the port; 0 takes a free one.

        Raises:
            ConfigError: others would reach it without a token.
            PortTakenError: the port can't be had.
        """
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((self._hub.handler(self._token),))
        bound = listen(
            server,
            "control server",
            address,
            port,
            token=self._token,
            certificates=self._certificates,
        )
        await server.start()
        await self._hub.start()
        self._server = server
        return bound

    async def aclose(self) -> None:
        """End all streams. Idempotent and safe before start."""
        server, self._server = self._server, None
        await self._hub.aclose()
        if server is not None:
            await server.stop(_STOP_GRACE_S)


async def watch(
    address: str, token: str | None = None, certificates: Certificates | None = None
) -> AsyncIterator[Report]:
    """Yield the reports of the process at `address` for as long as it lives.

    Raises:
        ConnectionFailedError: no connection, the token is refused, or the stream broke or ended.
    """
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    async with open_channel(address, _CLIENT_OPTIONS, certificates) as channel:
        call = channel.unary_stream(f"/{SERVICE}/{_METHOD}")(b"", metadata=metadata)
        try:
            async for data in call:
                if (report := _parse(data)) is not None:
                    yield report
        except grpc.aio.AioRpcError as error:
            raise ConnectionFailedError(
                f"control stream of {address} broke: {error.code().name}: {error.details()}"
            ) from error
        finally:
            call.cancel()
    raise ConnectionFailedError(f"control stream of {address} was ended by its process")


def _parse(data: bytes) -> Report | None:
    try:
        return _REPORTS.validate_json(data)
    except ValidationError:
        # A neighbouring version may say more than we know; liveness does not depend on it.
        logger.warning("report of an unknown kind is passed over", extra={"bytes": len(data)})
        return None


def _credentials(context: grpc.aio.ServicerContext) -> bytes:
    metadata: Any = context.invocation_metadata() or ()
    for key, value in metadata:
        if key == "authorization":
            return value if isinstance(value, bytes) else str(value).encode()
    return b""
