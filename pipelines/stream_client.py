"""The connection of this process to one replica: one gRPC stream for the streams of all calls."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import grpc.aio

from voxray.base.errors import PeerFailedError, ProtocolError
from voxray.base.ids import HostId
from voxray.base.lifecycle import TaskOwner
from voxray.base.tls import Certificates
from voxray.pipelines.engines.base import EngineInfo
from voxray.pipelines.failover import LOST
from voxray.pipelines.grpc_security import open_channel
from voxray.pipelines.input_log import InputLog
from voxray.pipelines.liveness import Silence
from voxray.pipelines.routing import Replica
from voxray.pipelines.uplink import Lane, Member, Uplink
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import messages as m

logger = logging.getLogger(__name__)

DESCRIBE_TIMEOUT_S = 3.0
"""How long a replica may take to accept the connection and say what it is."""

_OPTIONS = [
    # Replicas are inside the cluster: a proxy of the environment is never meant for them.
    ("grpc.enable_http_proxy", 0),
    # One TCP connection for each of our connections, so that they fail apart.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", m.MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", m.MAX_MESSAGE_BYTES),
    # A replica whose machine is gone without a word is noticed within 8 s.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


class StreamHandler(Protocol):
    """Takes what a replica says about one stream. Called on the event loop; never raises."""

    def opened(self, info: EngineInfo) -> None:
        """The stream is served."""
        ...

    def result(self, message: m.Result) -> None:
        """A result came."""
        ...

    def speech(self, message: m.Speech) -> None:
        """Speech came."""
        ...

    def flushed(self, count: int) -> None:
        """The first `count` flushes since the stream was attached were worked through."""
        ...

    def taken_in(self, number: int) -> None:
        """Audio up to this entry of the input log was taken in."""
        ...

    def over(self, failure: m.Failed | None) -> None:
        """The stream is over: finished (None), failed, or its connection was lost."""
        ...


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """How this process connects to replicas.

    Attributes:
        host_id: who connects.
        coalesce_ms: how long frames of all calls are gathered into one message.
        token: what the replicas ask for; None where they ask for nothing.
        certificates: of both ends; None connects without TLS.
    """

    host_id: HostId
    coalesce_ms: float
    token: str | None = field(default=None, repr=False)
    certificates: Certificates | None = None


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A stream's place in a connection."""

    connection: "ReplicaConnection"
    lane: Lane
    member: Member


class ReplicaConnection:
    """One connection. It fails once and for all; whoever needs the replica again makes another."""

    def __init__(
        self,
        replica: Replica,
        settings: ConnectionSettings,
        *,
        on_lost: Callable[["ReplicaConnection"], None],
        on_silent: Callable[["ReplicaConnection", float], None],
    ) -> None:
        """Prepare.

        Args:
            replica: where to connect.
            settings: how.
            on_lost: called once when the connection is over.
            on_silent: called again and again while the replica hangs, with the seconds since
                when; who is called decides whether to `fail` the connection.
        """
        self.replica = replica
        self.description: m.Description | None = None
        """What the replica said of itself; None until it has."""
        self.lost: str | None = None
        """Why the connection is over; None while it is not."""
        self.load: m.Load | None = None
        """What the replica last reported it has to do; None before it did."""
        self._settings = settings
        self._on_lost = on_lost
        self._on_silent = on_silent
        self._silence: Silence | None = None
        self._metadata = [("authorization", f"Bearer {settings.token}")] if settings.token else []
        self._uplink = Uplink(settings.host_id, self._wake)
        self._handlers: dict[int, StreamHandler] = {}
        self._decided = asyncio.Event()
        self._outgoing = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = TaskOwner(f"replica-{replica.replica_id}", on_failure=self._broke)

    @property
    def streams(self) -> int:
        """Streams that the connection carries."""
        return len(self._handlers)

    @property
    def offers(self) -> frozenset[str] | None:
        """Names and kinds of the replica's engines; None before it told them."""
        if self.description is None:
            return None
        infos = self.description.engines
        return frozenset(info.name for info in infos) | {info.kind.value for info in infos}

    def find(self, engine: str) -> EngineInfo | None:
        """Return the engine that serves a name or a kind; None if the replica has none."""
        infos = self.description.engines if self.description is not None else ()
        named = next((info for info in infos if info.name == engine), None)
        return named or next((info for info in infos if info.kind.value == engine), None)

    def start(self) -> None:
        """Begin to connect."""
        self._tasks.spawn("run", self._run())

    async def ready(self) -> None:
        """Wait until the replica has said what it is.

        Raises:
            PeerFailedError: the connection could not be made, or is lost.
        """
        await self._decided.wait()
        if self.lost is not None:
            raise PeerFailedError(self.lost)

    def attach(
        self,
        handler: StreamHandler,
        log: InputLog,
        key: int,
        opening: m.Open,
        *,
        start: int | None,
        audio: bool,
    ) -> Attachment:
        """Open a stream (arguments as in `Uplink.join`); the handler is told what comes of it.

        Raises:
            PeerFailedError: the connection is lost.
        """
        if self.lost is not None:
            raise PeerFailedError(self.lost)
        lane, member = self._uplink.join(log, key, opening, start=start, audio=audio)
        self._handlers[member.stream] = handler
        return Attachment(connection=self, lane=lane, member=member)

    def detach(self, attachment: Attachment) -> None:
        """Close a stream; its handler hears nothing more. Idempotent."""
        member = attachment.member
        known = self._handlers.pop(member.stream, None) is not None
        if attachment.lane.members.get(member.key) is member:
            self._uplink.leave(attachment.lane, member, tell=known)

    def logged(self, log: InputLog, size: int, *, urgent: bool) -> None:
        """Note that an input log has grown by `size` bytes."""
        if self.lost is None:
            self._uplink.ready(log, size, urgent=urgent)

    def grant(self, attachment: Attachment, count: int) -> None:
        """Allow the replica `count` more bytes of speech on a stream."""
        if self.lost is None:
            self._uplink.control(m.Credit(attachment.member.stream, count))

    def fail(self, reason: str) -> None:
        """Give the connection up: all its streams are told that it is lost. Idempotent."""
        if self.lost is not None:
            return
        self.lost = reason
        self._decided.set()
        self._cancel_timer()
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            handler.over(m.Failed(number, LOST, reason, retryable=True))
        self._on_lost(self)

    async def aclose(self) -> None:
        """Close the connection; streams that are left are told. Idempotent."""
        self.fail(f"the connection to replica {self.replica.replica_id} was closed")
        await self._tasks.aclose()

    def _wake(self, urgent: bool) -> None:
        if urgent or self._settings.coalesce_ms <= 0:
            self._outgoing.set()
        elif self._timer is None and not self._outgoing.is_set():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._settings.coalesce_ms / 1000, self._outgoing.set)

    async def _run(self) -> None:
        replica_id = self.replica.replica_id
        try:
            address, certificates = self.replica.address, self._settings.certificates
            async with open_channel(address, _OPTIONS, certificates) as channel:
                await self._describe(channel)
                self._decided.set()
                await self._pump(channel)
            reason = f"replica {replica_id} closed the connection"
        except grpc.aio.AioRpcError as error:
            reason = f"replica {replica_id}: {error.code().name}: {error.details()}"
        except ProtocolError as error:
            reason = f"replica {replica_id} sent nonsense: {error}"
        except asyncio.CancelledError:
            # Ours, by `aclose`, which has told the streams; or of the call, with its writer.
            self.fail(f"the connection to replica {replica_id} was cancelled")
            raise
        logger.info("connection to a replica is lost", extra={"replica_id": replica_id})
        self.fail(reason)

    def _broke(self, task: str, error: BaseException) -> None:
        # A bug of ours must not leave calls behind that wait for ever.
        logger.error("task of a replica connection failed", extra={"task": task}, exc_info=error)
        self.fail(f"the connection to replica {self.replica.replica_id} failed: {error!r}")

    async def _describe(self, channel: grpc.aio.Channel) -> None:
        describe = channel.unary_unary(f"/{codec.SERVICE}/{codec.DESCRIBE}")
        answer = await describe(
            codec.encode_describe_request(), timeout=DESCRIBE_TIMEOUT_S, metadata=self._metadata
        )
        description = codec.decode_description(answer)
        # A newer server serves our version as well; an older one than the last can't.
        if description.version + 1 < m.VERSION:
            raise ProtocolError(f"it speaks version {description.version}, we speak {m.VERSION}")
        self.description = description
        self._uplink.remember(description.recall_bytes)
        self.load = m.Load(description.streams, description.max_streams, 0.0)

    async def _pump(self, channel: grpc.aio.Channel) -> None:
        """Send and receive until either end is over."""
        call = channel.stream_stream(f"/{codec.SERVICE}/{codec.CONNECT}")(metadata=self._metadata)
        writer = self._tasks.spawn("write", self._write(call))
        # A connection that can only listen is none: with the writer the reader ends too.
        writer.add_done_callback(lambda _: call.cancel())
        if self.description is not None and self.description.load_interval_ms:
            self._tasks.spawn("watch", self._watch(self.description.load_interval_ms / 1000))
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                if self._silence is not None:
                    self._silence.heard()
                for message in codec.decode_server_batch(data).messages:
                    self._dispatch(message)
        finally:
            writer.cancel()
            call.cancel()

    async def _watch(self, interval_s: float) -> None:
        """Notice when a replica that should report does not."""
        self._silence = silence = Silence(interval_s)
        loop = asyncio.get_running_loop()
        while self.lost is None:
            if silence.look(loop.time()):
                self._on_silent(self, silence.seconds)
            await asyncio.sleep(interval_s)

    async def _write(self, call: "grpc.aio.StreamStreamCall[bytes, bytes]") -> None:
        try:
            while True:
                while (batch := self._uplink.take()) is not None:
                    await call.write(codec.encode_client_batch(batch))
                self._outgoing.clear()
                self._cancel_timer()
                await self._outgoing.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # The call is over: the reader learns why.

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _dispatch(self, message: m.ServerMessage) -> None:
        if isinstance(message, m.Load):
            self.load = message
        elif isinstance(message, m.Acknowledged):
            self._acknowledged(message)
        elif isinstance(message, m.Failed) and not message.stream:
            self.fail(f"replica {self.replica.replica_id}: {message.message}")
        else:
            self._tell(message)

    def _acknowledged(self, message: m.Acknowledged) -> None:
        lane = self._uplink.acknowledge(message)
        members = list(lane.members.values()) if lane is not None else []
        for member in members:
            if lane is not None and (listener := self._handlers.get(member.stream)):
                listener.taken_in(lane.taken)

    def _tell(self, message: m.StreamMessage) -> None:
        handler = self._handlers.get(message.stream)
        if handler is None:  # We closed it a moment ago.
            return
        match message:
            case m.Opened(engine=info):
                handler.opened(info)
            case m.Result():
                handler.result(message)
            case m.Speech():
                handler.speech(message)
            case m.Flushed(count=count):
                handler.flushed(count)
            case m.Finished():
                del self._handlers[message.stream]
                handler.over(None)
            case m.Failed():
                del self._handlers[message.stream]
                handler.over(message)
