"""The gRPC server of an inference replica: hosts connect, each with one stream for all calls."""

import asyncio
import hmac
import logging
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from voxray.actors.inference_connection import InferenceConnection
from voxray.base.errors import ProtocolError
from voxray.base.ids import ReplicaId
from voxray.base.lifecycle import TaskOwner
from voxray.base.tls import Certificates
from voxray.observability.events import EventSink
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.grpc_security import listen
from voxray.pipelines.recent_audio import RECALL_BYTES
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import messages as m

logger = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0
"""A connection that says nothing for so long at its beginning is closed."""
LOAD_INTERVAL_S = 0.2
"""How often every connection is told the replica's load: five small messages a second."""
_LAST_WRITE_S = 1.0
# Longer takes only a host that does not read.
_GATHER_S = 0.002
# Results of one engine batch come in one turn of the loop, those of several within this.

_OPTIONS = [
    # Two replicas must never share a port by accident.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", m.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", m.MAX_MESSAGE_BYTES),
    # A host that is gone without a word (half-open connection) is found within 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Hosts ping every 5 s, also while nobody speaks.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
]


class InferenceServer:
    """Serves the engines of one process to the session hosts."""

    def __init__(  # noqa: PLR0913 - each is one thing of its own
        self,
        engine_host: EngineHost,
        *,
        replica_id: ReplicaId,
        token: str | None = None,
        certificates: Certificates | None = None,
        max_streams_per_host: int = 256,
        sink: EventSink | None = None,
        others: Sequence[grpc.GenericRpcHandler] = (),
    ) -> None:
        """Prepare.

        Args:
            engine_host: the engines; started and closed by the caller.
            replica_id: who we are.
            token: what every caller has to bring as `authorization: Bearer ...`; None for
                callers that are trusted as they are.
            certificates: of both ends; None serves without TLS.
            max_streams_per_host: streams that one connection may have at once.
            sink: takes the events; None drops them.
            others: further services on the same port; they check their callers themselves.
        """
        self._others = tuple(others)
        self._engines = engine_host
        self._replica_id = replica_id
        self._max_streams_per_host = max_streams_per_host
        self._sink = sink
        self._token = token
        self._certificates = certificates
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._server: grpc.aio.Server | None = None
        self._connections: set[InferenceConnection] = set()

    @property
    def connections(self) -> int:
        """Hosts that are connected."""
        return len(self._connections)

    async def start(self, address: str, port: int) -> int:
        """Listen, and return the port; 0 takes a free one.

        Raises:
            ConfigError: others would reach it without a token.
            PortTakenError: the port can't be had.
        """
        server = grpc.aio.server(options=_OPTIONS)
        handlers = {
            codec.CONNECT: grpc.stream_stream_rpc_method_handler(self._connect),
            codec.DESCRIBE: grpc.unary_unary_rpc_method_handler(self._describe),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(codec.SERVICE, handlers), *self._others)
        )
        bound = listen(
            server,
            f"replica {self._replica_id}",
            address,
            port,
            token=self._token,
            certificates=self._certificates,
        )
        await server.start()
        self._server = server
        logger.info("inference server listens", extra={"address": address, "port": bound})
        return bound

    async def aclose(self) -> None:
        """End all connections and stop listening. Idempotent and safe before `start`."""
        server, self._server = self._server, None
        if server is not None:
            # No grace: connections last as long as their hosts, which find another replica at once.
            await server.stop(None)

    async def _describe(self, _request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await self._authorize(context)
        return codec.encode_description(
            m.Description(
                replica=self._replica_id,
                engines=self._engines.infos(),
                streams=self._engines.streams,
                max_streams=self._engines.max_streams,
                recall_bytes=RECALL_BYTES,
                load_interval_ms=round(LOAD_INTERVAL_S * 1000),
            )
        )

    async def _connect(self, _requests: Any, context: grpc.aio.ServicerContext) -> None:
        await self._authorize(context)
        wanted = asyncio.Event()
        over = asyncio.Event()
        overflow: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection = InferenceConnection(
            self._engines,
            wake=wanted.set,
            on_overflow=lambda: overflow.set_result(None),
            max_streams=self._max_streams_per_host,
            sink=self._sink,
        )
        # A failing pump is reported below, with the status that the host sees.
        pumps = TaskOwner(f"connection-{self._replica_id}", on_failure=lambda _name, _error: None)
        self._connections.add(connection)
        try:
            reader = pumps.spawn("read", self._read(context, connection))
            writer = pumps.spawn("write", _write(context, connection, wanted, over))
            pumps.spawn("load", self._report(connection))
            await asyncio.wait((reader, writer, overflow), return_when=asyncio.FIRST_COMPLETED)
            connection.close()
            over.set()
            wanted.set()
            # gRPC can't tell the end of a call while a message of it is still being sent.
            await asyncio.wait((writer,), timeout=_LAST_WRITE_S)
        finally:
            self._connections.discard(connection)
            connection.close()
            await pumps.aclose()
        await self._finish(context, reader, overflow)

    async def _report(self, connection: InferenceConnection) -> None:
        engines = self._engines
        while True:
            # First the pause: what `Describe` has told a moment ago is not told again.
            await asyncio.sleep(LOAD_INTERVAL_S)
            connection.report(m.Load(engines.streams, engines.max_streams, engines.queue_s))

    async def _finish(
        self,
        context: grpc.aio.ServicerContext,
        reader: "asyncio.Task[None]",
        overflow: "asyncio.Future[None]",
    ) -> None:
        """End the call with the status that says why."""
        if overflow.done():
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "the host does not read its results"
            )
        error = None if not reader.done() or reader.cancelled() else reader.exception()
        match error:
            case None:
                return
            case ProtocolError():
                logger.warning("host sent nonsense; its connection is closed")
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            case TimeoutError():
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"no batch came within {HELLO_TIMEOUT_S} s"
                )
            case _:
                logger.error("connection of a host failed", exc_info=error)
                await context.abort(grpc.StatusCode.INTERNAL, "the replica failed on a message")

    async def _read(
        self, context: grpc.aio.ServicerContext, connection: InferenceConnection
    ) -> None:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            data = await context.read()
        if data is grpc.aio.EOF:
            return
        batch = codec.decode_client_batch(data)
        if batch.version not in m.SERVED_VERSIONS:
            served = ", ".join(str(version) for version in sorted(m.SERVED_VERSIONS))
            raise ProtocolError(
                f"the host speaks version {batch.version}; replica {self._replica_id} serves"
                f" {served}"
            )
        logger.info("host connected", extra={"host_id": batch.host})
        connection.host = batch.host
        while True:
            for message in batch.messages:
                connection.handle(message)
            data = await context.read()
            if data is grpc.aio.EOF:
                return
            batch = codec.decode_client_batch(data)

    async def _authorize(self, context: grpc.aio.ServicerContext) -> None:
        if self._authorization is None:
            return
        given = b""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                given = value if isinstance(value, bytes) else value.encode()
        if not hmac.compare_digest(given, self._authorization):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token")


async def _write(
    context: grpc.aio.ServicerContext,
    connection: InferenceConnection,
    wanted: asyncio.Event,
    over: asyncio.Event,
) -> None:
    while not over.is_set():
        await wanted.wait()
        await asyncio.sleep(_GATHER_S)
        wanted.clear()
        while messages := connection.take():
            await context.write(codec.encode_server_batch(m.ServerBatch(messages)))
