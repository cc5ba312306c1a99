"""The inference client of a session host: opens streams on replicas and keeps them alive."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, assert_never

from voxray.base.errors import PeerFailedError, StreamClosedError, VoxrayError
from voxray.base.ids import HostId, ReplicaId
from voxray.base.lifecycle import TaskOwner
from voxray.base.timing import Clock
from voxray.base.tls import Certificates
from voxray.observability.events import EventSink, StreamReopened
from voxray.pipelines.audio_source import AudioSource
from voxray.pipelines.failover import (
    ABSENT,
    LOST,
    STALE,
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
from voxray.pipelines.replica_pool import ReplicaPool
from voxray.pipelines.routing import Replica
from voxray.pipelines.stream_client import ConnectionSettings, ReplicaConnection
from voxray.pipelines.streams import LIVE, StreamTerms
from voxray.pipelines.wire import messages as m

logger = logging.getLogger(__name__)

WAIT_S = 5.0
"""How long a stream waits for a replica, at its opening and after a failure."""
ANSWER_TIMEOUT_S = 3.0
"""How long a replica may take to say whether it serves a stream."""
_MOVE_AGAIN_S = 1.0
# A stream that no other replica takes yet stays, and asks again after so long.


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
        self.call_of: Callable[[], str] = str
        """Names the call that opens a stream, in its own context; empty for none. The streams of a
        call share a connection, so that its audio goes up once."""
        self._node = node
        self._sink = sink
        self._clock = clock
        # Spreads retries and choices; nothing secret comes of it.
        self._rng = random.Random()  # noqa: S311 - jitter
        self._pool = ReplicaPool(
            ConnectionSettings(
                host_id=host_id, coalesce_ms=coalesce_ms, token=token, certificates=certificates
            ),
            clock=clock,
            rng=self._rng,
            on_change=self._notify,
        )
        self._streams: dict[RemoteStream, ReopenBudget] = {}
        # Streams that look for a replica: at their opening, after a loss, or for a move.
        self._searching: set[RemoteStream] = set()
        self._last_key = 0
        self._changed = asyncio.Event()
        self._tasks = TaskOwner(f"inference-client-{host_id}")
        self._closed = False

    @property
    def streams(self) -> int:
        """Streams that are open or being opened."""
        return len(self._streams)

    def set_replicas(self, replicas: tuple[Replica, ...]) -> None:
        """Take the replicas that there are now.

        Streams of a replica that is no longer among them move to another one; until one has
        taken them, they stay. An empty list moves nothing.
        """
        if self._closed:
            return
        for connection in self._pool.set(replicas):
            name = f"leave-{connection.replica.replica_id}"
            self._tasks.spawn(name, self._leave(connection))
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
        stream.call = self.call_of()
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
        await self._pool.aclose()

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
        self._searching.add(stream)
        try:
            while not stream.ended:
                now_s = self._clock.monotonic()
                step = search.next(now_s, self._pool.views(), self._near(stream))
                match step:
                    case GiveUp(error=error):
                        return error
                    case Wait(seconds=seconds):
                        await self._changed_within(seconds)
                    case TryReplica(replica=replica):
                        stream.heading_for = replica.replica_id
                        failure = await self._try(stream, replica)
                        if failure is None and not stream.ended:
                            self._pool.keep_warm(stream.engine)
                            return None
                        stream.heading_for = None
                        if failure is not None:
                            now_s = self._clock.monotonic()
                            search.refused(replica.replica_id, failure, now_s)
                    case _:
                        assert_never(step)
        finally:
            self._searching.discard(stream)
            stream.heading_for = None
        return StreamClosedError("the stream was closed while it opened")

    def _near(self, stream: RemoteStream) -> frozenset[ReplicaId]:
        """Return the replicas that the audio of the stream's call goes to already."""
        same = (
            other.served_by
            for other in self._streams
            if other.source is stream.source or (other.call and other.call == stream.call)
        )
        return frozenset(replica_id for replica_id in same if replica_id is not None)

    async def _try(self, stream: RemoteStream, replica: Replica) -> m.Failed | None:
        failure: m.Failed | None
        try:
            while True:
                connection = await self._pool.connected(replica)
                info = connection.find(stream.engine)
                if info is None:
                    reason = f"replica {replica.replica_id} has no engine {stream.engine}"
                    return m.Failed(0, ABSENT, reason, retryable=True)
                if stream.ended:
                    return None
                stream.attach(connection, info)
                failure = await stream.answer(ANSWER_TIMEOUT_S)
                if failure is None or failure.code != STALE:
                    return failure
        except PeerFailedError as error:
            return m.Failed(0, LOST, str(error), retryable=True)

    async def _leave(self, connection: ReplicaConnection) -> None:
        """Move all streams off a replica that was withdrawn."""
        while connection.lost is None and not self._pool.close_when_empty(connection):
            # Again and again: one may just have been opening there.
            streams = [stream for stream in self._streams if stream.on(connection)]
            await asyncio.gather(*(self._move(stream, connection) for stream in streams))
            if connection.streams:
                await self._changed_within(_MOVE_AGAIN_S)

    async def _move(self, stream: RemoteStream, connection: ReplicaConnection) -> None:
        if stream in self._searching or stream.ended:
            return
        error = await self._place(stream)
        if error is None:
            self._reopened(stream, gap_s=0.0)
        elif stream.on(connection):
            logger.info(
                "no replica takes a stream that should move; it stays for now",
                extra={"engine": stream.engine, "reason": str(error)},
            )
        else:
            # Its replica was lost while it looked for another one.
            stream.finish(end_of(error))

    def _reopen_later(self, stream: RemoteStream, failure: m.Failed) -> None:
        now_s = self._clock.monotonic()
        if self._closed:
            stream.finish(StreamClosedError("the inference client was closed"))
        elif not self._streams[stream].spend(now_s):
            stream.finish(given_up(self._streams[stream], failure))
        elif stream not in self._searching:
            self._tasks.spawn("reopen", self._reopen(stream, now_s))

    async def _reopen(self, stream: RemoteStream, lost_s: float) -> None:
        error = await self._place(stream)
        if error is not None:
            stream.finish(end_of(error))
        else:
            self._reopened(stream, gap_s=self._clock.monotonic() - lost_s)

    def _reopened(self, stream: RemoteStream, *, gap_s: float) -> None:
        self._sink.emit(
            StreamReopened(engine=stream.engine, gap_s=gap_s, replayed_s=stream.replayed_s)
        )

    def _forget(self, stream: RemoteStream) -> None:
        self._streams.pop(stream, None)

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
