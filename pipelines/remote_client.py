"""The inference client of a session host: opens streams on replicas and keeps them alive."""

import asyncio
import contextvars
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

from voxray.base.errors import PeerFailedError, StreamClosedError, VoxrayError
from voxray.base.ids import HostId, ReplicaId
from voxray.base.lifecycle import TaskOwner
from voxray.base.timing import Backoff, Clock
from voxray.base.tls import Certificates
from voxray.observability.events import EventSink, StreamReopened
from voxray.pipelines.audio_source import AudioSource
from voxray.pipelines.failover import (
    ABSENT,
    LOST,
    GiveUp,
    ReopenBudget,
    Search,
    TryReplica,
    Wait,
    end_of,
    given_up,
)
from voxray.pipelines.input_log import recording_log
from voxray.pipelines.remote_stream import RemoteStream
from voxray.pipelines.routing import Replica, ReplicaView
from voxray.pipelines.stream_client import ConnectionSettings, ReplicaConnection
from voxray.pipelines.streams import LIVE, StreamTerms
from voxray.pipelines.wire import messages as m

WAIT_S = 5.0
"""How long a stream waits for a replica, at its opening and after a failure."""
ANSWER_TIMEOUT_S = 3.0
"""How long a replica may take to say whether it serves a stream."""
_REST = Backoff(first_s=0.2, limit_s=1.0)
# A replica that failed is left alone for so long.


@dataclass(kw_only=True)
class _Health:
    failures: int = 0
    rests_until_s: float = 0.0


class RemoteInferenceClient:
    """An `InferenceClient` over the replicas that the fleet announces.

    Everything runs on the event loop that makes the client; `set_replicas` as well.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of its own
        self,
        *,
        host_id: HostId,
        node: str,
        coalesce_ms: float,
        sink: EventSink,
        clock: Clock,
        token: str | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """Prepare; connections are made when they are needed.

        Args:
            host_id: who we are.
            node: the node that we run on, for replicas near by.
            coalesce_ms: how long frames of all calls are gathered into one message.
            sink: takes the events.
            clock: tells the time.
            token: what the replicas ask for; None where they ask for nothing.
            certificates: of both ends; None connects without TLS.
        """
        self.wait_s = WAIT_S
        """How long a stream waits for a replica."""
        self._settings = ConnectionSettings(
            host_id=host_id, coalesce_ms=coalesce_ms, token=token, certificates=certificates
        )
        self._node = node
        self._sink = sink
        self._clock = clock
        # Spreads retries in time; nothing secret comes of it.
        self._rng = random.Random()  # noqa: S311 - jitter
        self._replicas: dict[ReplicaId, Replica] = {}
        self._health: dict[ReplicaId, _Health] = {}
        self._connections: dict[ReplicaId, ReplicaConnection] = {}
        # Lost ones included, until they are closed.
        self._unclosed: set[ReplicaConnection] = set()
        self._streams: dict[RemoteStream, ReopenBudget] = {}
        self._last_key = 0
        self._changed = asyncio.Event()
        self._tasks = TaskOwner(f"inference-client-{host_id}")
        # Connections are shared: made in this context, not in that of the call that needs one.
        self._context = contextvars.copy_context()
        self._closed = False

    @property
    def streams(self) -> int:
        """Streams that are open or being opened."""
        return len(self._streams)

    def set_replicas(self, replicas: tuple[Replica, ...]) -> None:
        """Take the replicas that there are now.

        Streams of a replica that is no longer among them, or has a new address, move. Only an
        empty list moves nothing: it may just mean that the fleet starts anew.
        """
        if self._closed:
            return
        self._replicas = {replica.replica_id: replica for replica in replicas}
        self._health = {key: self._health.get(key, _Health()) for key in self._replicas}
        for replica_id, connection in list(self._connections.items()):
            known = self._replicas.get(replica_id)
            if replicas and (known is None or known.address != connection.replica.address):
                connection.fail(f"replica {replica_id} was withdrawn")
                if known is not None:  # It failed at its old address only.
                    self._health[replica_id] = _Health()
        self._notify()

    def new_source(self) -> AudioSource:
        """Return a source of audio that several streams can listen to."""
        return AudioSource(self._sink)

    async def open(
        self,
        engine: str,
        options: Mapping[str, Any],
        *,
        traceparent: str = "",
        terms: StreamTerms = LIVE,
        source: AudioSource | None = None,
    ) -> RemoteStream:
        """Open a stream to an engine, named by its name or its kind (`vad`, `stt`, `tts`).

        Args:
            engine: the engine's name or kind.
            options: the engine's options; must be what JSON can say.
            traceparent: W3C trace context of the call.
            terms: what the stream wants of us.
            source: audio that the stream shares with others; None gives it its own.

        Raises:
            EngineConfigError: no such engine, or it can't do what the options ask.
            CapacityError: every replica is at its limit, or none is known within the deadline.
            EngineError: the engine failed at once.
            StreamClosedError: the client is closed.
        """
        if self._closed:
            raise StreamClosedError("no stream was opened: the inference client is closed")
        self._last_key += 1
        stream = RemoteStream(
            self._last_key,
            m.Open(0, engine, 0, options, traceparent),
            source or self._source_for(terms),
            on_failure=self._reopen_later,
            on_end=self._forget,
        )
        self._streams[stream] = ReopenBudget() if terms.moves else ReopenBudget(reopens=0)
        try:
            error = await self._place(stream, terms.wait_s)
        except BaseException:
            await stream.aclose()
            raise
        if error is not None:
            await stream.aclose()
            raise error
        return stream

    async def aclose(self) -> None:
        """End all streams and connections. Idempotent."""
        self._closed = True
        for stream in list(self._streams):
            stream.finish(StreamClosedError("the inference client was closed"))
        self._notify()
        await self._tasks.aclose()
        for connection in list(self._unclosed):
            await self._close(connection)

    def _source_for(self, terms: StreamTerms) -> AudioSource:
        return AudioSource(self._sink, recording_log(terms.recording_s))

    async def _place(self, stream: RemoteStream, wait_s: float | None = None) -> VoxrayError | None:
        """Find a replica that serves the stream; return why there is none."""
        search = Search(
            stream.engine,
            node=self._node,
            now_s=self._clock.monotonic(),
            wait_s=self.wait_s if wait_s is None else wait_s,
            rng=self._rng,
        )
        while not stream.ended:
            step = search.next(self._clock.monotonic(), self._views())
            match step:
                case GiveUp(error=error):
                    return error
                case Wait(seconds=seconds):
                    await self._changed_within(seconds)
                case TryReplica(replica=replica):
                    failure = await self._try(stream, replica)
                    if failure is None:
                        break
                    search.refused(replica.replica_id, failure, self._clock.monotonic())
                case _:
                    assert_never(step)
        return StreamClosedError("the stream was closed while it opened") if stream.ended else None

    async def _try(self, stream: RemoteStream, replica: Replica) -> m.Failed | None:
        try:
            connection = self._connect(replica)
            await connection.ready()
            self._health[replica.replica_id] = _Health()
            info = connection.find(stream.engine)
            if info is None:
                reason = f"replica {replica.replica_id} has no engine {stream.engine}"
                return m.Failed(0, ABSENT, reason, retryable=True)
            if stream.ended:
                return None
            stream.attach(connection, info)
        except PeerFailedError as error:
            return m.Failed(0, LOST, str(error), retryable=True)
        return await stream.answer(ANSWER_TIMEOUT_S)

    def _connect(self, replica: Replica) -> ReplicaConnection:
        connection = self._connections.get(replica.replica_id)
        if connection is None:
            make = partial(ReplicaConnection, replica, self._settings, on_lost=self._lost)
            connection = self._context.run(make)
            self._connections[replica.replica_id] = connection
            self._unclosed.add(connection)
            connection.start()
        return connection

    def _lost(self, connection: ReplicaConnection) -> None:
        replica_id = connection.replica.replica_id
        if self._connections.get(replica_id) is connection:
            del self._connections[replica_id]
        health = self._health.get(replica_id)
        if health is not None:
            health.failures += 1
            pause_s = _REST.delay_s(health.failures, self._rng)
            health.rests_until_s = self._clock.monotonic() + pause_s
        if not self._closed:
            self._tasks.spawn(f"close-{replica_id}", self._close(connection))

    async def _close(self, connection: ReplicaConnection) -> None:
        await connection.aclose()
        self._unclosed.discard(connection)

    def _reopen_later(self, stream: RemoteStream, failure: m.Failed) -> None:
        now_s = self._clock.monotonic()
        if self._closed:
            stream.finish(StreamClosedError("the inference client was closed"))
        elif self._streams[stream].spend(now_s):
            self._tasks.spawn("reopen", self._reopen(stream, now_s))
        else:
            stream.finish(given_up(self._streams[stream], failure))

    async def _reopen(self, stream: RemoteStream, lost_s: float) -> None:
        error = await self._place(stream)
        if error is None:
            gap_s = self._clock.monotonic() - lost_s
            self._sink.emit(
                StreamReopened(engine=stream.engine, gap_s=gap_s, replayed_s=stream.replayed_s)
            )
        else:
            stream.finish(end_of(error))

    def _forget(self, stream: RemoteStream) -> None:
        self._streams.pop(stream, None)

    def _views(self) -> tuple[ReplicaView, ...]:
        views = []
        for replica_id, replica in self._replicas.items():
            connection = self._connections.get(replica_id)
            views.append(
                ReplicaView(
                    replica=replica,
                    streams=0 if connection is None else connection.streams,
                    offers=None if connection is None else connection.offers,
                    rests_until_s=self._health[replica_id].rests_until_s,
                )
            )
        return tuple(views)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _changed_within(self, seconds: float) -> None:
        changed = self._changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return
