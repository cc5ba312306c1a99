"""Runs one engine's batches off the event loop and hands the results back to it.

Queues and decisions live on the loop (`batching.py`), so nothing here needs a lock: a batch goes
to the engine's thread, its results come back in one wake-up of the loop for as many as there are,
and the next batch is decided when the last is done.
"""

import asyncio
import logging
from collections import deque
from concurrent.futures import CancelledError, Future
from functools import partial

from voxray.base.errors import (
    EngineConfigError,
    EngineError,
    StreamClosedError,
    StreamEndedError,
    StreamFinishedError,
)
from voxray.base.timing import Clock
from voxray.observability.events import (
    BatchDone,
    EventSink,
    FramesDropped,
    StreamFailed,
    StreamsChanged,
)
from voxray.pipelines.batch_job import run_batch, weight_of
from voxray.pipelines.batch_spans import BatchSpans
from voxray.pipelines.batching import Batch, Batcher, BatchLimits
from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    Engine,
    EngineInput,
    EngineOutput,
    EngineSession,
    FlushInput,
)
from voxray.pipelines.lanes import NOWHERE, Lane, LaneCallbacks, StreamOrigin, tell
from voxray.pipelines.parcels import Finished, Late, Parcel, Work
from voxray.pipelines.worker_thread import WorkerThread

logger = logging.getLogger(__name__)

_CLOSE_DEADLINE_S = 5.0
# Engines look at `cancelled` between pieces of work of well under a second.
_QUEUE_WEIGHT = 0.1
_QUEUE_MEMORY_S = 5.0
# The queue time is smoothed over about twenty batches, and forgotten when nothing ran for a while.


class EngineExecutor:
    """One engine, its thread, and the lanes of its streams. Belongs to one event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        limits: BatchLimits,
        sink: EventSink,
        clock: Clock,
        spans: BatchSpans | None = None,
    ) -> None:
        self._engine = engine
        self._name = engine.info.name
        self._sink = sink
        self._clock = clock
        self._spans = spans
        self._batcher: Batcher[EngineInput] = Batcher(limits)
        self._lanes: dict[int, Lane] = {}
        self._last_key = 0
        self._outbox: deque[Parcel] = deque()
        self._wake_pending = False
        self._worker: WorkerThread | None = None
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._closed = False
        self._queue_s = 0.0
        self._last_batch_s = 0.0

    @property
    def engine(self) -> Engine:
        """The engine that is run here."""
        return self._engine

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._lanes)

    @property
    def queue_s(self) -> float:
        """Smoothed seconds that the oldest input of a batch waited."""
        idle_s = self._clock.monotonic() - self._last_batch_s
        return self._queue_s if idle_s < _QUEUE_MEMORY_S else 0.0

    async def start(self) -> None:
        """Load the engine on its thread.

        Raises:
            EngineConfigError: it can't be loaded.
        """
        self._worker = WorkerThread(f"engine-{self._name}")
        try:
            await self._worker.call(self._engine.load)
        except EngineConfigError:
            raise
        except Exception as error:
            raise EngineConfigError(
                f"engine {self._name} can't be loaded: {type(error).__name__}: {error}"
            ) from error

    def open(
        self, session: EngineSession, callbacks: LaneCallbacks, origin: StreamOrigin = NOWHERE
    ) -> Lane:
        """Add a stream."""
        self._last_key += 1
        lane = Lane(self._last_key, session, callbacks, origin)
        self._lanes[lane.key] = lane
        self._batcher.open(lane.key)
        self._sink.emit(StreamsChanged(engine=self._name, open=len(self._lanes)))
        return lane

    def push(self, lane: Lane, item: EngineInput) -> bool:
        """Queue an input; return False if the lane's queue is full, which is counted.

        Raises:
            StreamEndedError: the stream, or its input, has ended.
            EngineError: the stream has failed.
        """
        if lane.end is not None:
            raise lane.end
        if lane.input_ended:
            raise StreamClosedError("input was pushed after the end of input")
        flush, last = isinstance(item, FlushInput), isinstance(item, EndOfInput)
        force = last or (flush and not lane.flushed)
        now_s, weight = self._clock.monotonic(), weight_of(item, self._engine.info.sample_rate)
        if not self._batcher.put(lane.key, item, now_s, weight=weight, force=force):
            if flush:
                return True  # The one before it does the same: no peer fills memory with them.
            if isinstance(item, AudioInput):
                self._sink.emit(FramesDropped(where="engine", frames=1))
            return False
        lane.accepted += 1
        lane.flushed = flush
        lane.input_ended = last
        self._decide_soon()
        return True

    def close(self, lane: Lane) -> None:
        """Abandon a stream: no callback comes any more. Idempotent."""
        self._end(lane, StreamClosedError("the stream was closed"))

    async def aclose(self) -> None:
        """End all streams, free the engine, end the thread. Idempotent and safe before `start`.

        Raises:
            DeadlineError: the engine does not stop; its thread is left behind.
        """
        if self._closed:
            return
        self._closed = True
        self._stop_waiting()
        for lane in list(self._lanes.values()):
            end = StreamClosedError(f"engine {self._name} was closed")
            self._end(lane, end)
            tell(lane.callbacks.on_end, end)
        if self._worker is not None:
            # It comes after the batch that still runs, which sees that all its lanes ended.
            self._worker.submit(self._close_engine)
            await self._worker.aclose(_CLOSE_DEADLINE_S)
            self._deliver()

    # Deciding, on the loop.

    def _decide_soon(self) -> None:
        if self._busy or self._soon is not None:
            return
        if self._timer is not None:
            now_s = self._clock.monotonic()
            close_at_s = self._batcher.close_at_s(now_s)
            if close_at_s is None or close_at_s > now_s:
                return
        # Inputs of one network message arrive in one turn of the loop: all of them may join.
        self._soon = asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        self._stop_waiting()
        if self._busy or self._closed:
            return
        now_s = self._clock.monotonic()
        close_at_s = self._batcher.close_at_s(now_s)
        if close_at_s is None:
            return
        if close_at_s > now_s:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(close_at_s - now_s, self._decide)
        elif (batch := self._batcher.take(now_s)) is not None:
            self._hand_over(batch)

    def _stop_waiting(self) -> None:
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None

    def _hand_over(self, batch: Batch[EngineInput]) -> None:
        assert self._worker is not None, "a stream got input before its engine was loaded"
        self._busy = True
        work = tuple((self._lanes[key], inputs) for key, inputs in batch.items)
        for lane, _ in work:
            lane.in_flight = True
        self._worker.submit(partial(self._run, batch, work))

    # Working, on the engine's thread.

    def _run(self, batch: Batch[EngineInput], work: Work) -> None:
        self._post(run_batch(self._engine, batch, work, give=self._give, clock=self._clock))

    def _give(self, lane: Lane, output: EngineOutput) -> None:
        if lane.end is None:
            self._post((lane, output))

    def _post(self, parcel: Parcel) -> None:
        # Append first, then look at the flag: `_deliver` clears it before it looks at the outbox,
        # so a parcel is either seen by the delivery under way or wakes the next one.
        self._outbox.append(parcel)
        if not self._wake_pending:
            self._wake_pending = True
            assert self._worker is not None
            self._worker.post(self._deliver)

    def _close_engine(self) -> None:
        try:
            self._engine.close()
        except Exception:
            logger.exception("engine did not close", extra={"engine": self._name})

    # Delivering, on the loop again.

    def _deliver(self) -> None:
        self._wake_pending = False
        while self._outbox:
            parcel = self._outbox.popleft()
            if isinstance(parcel, Finished):
                self._finish(parcel)
            elif isinstance(parcel, Late):
                self._finish_late(parcel)
            elif parcel[0].end is None:
                tell(parcel[0].callbacks.on_output, parcel[1])

    def _finish(self, done: Finished) -> None:
        self._busy = False
        size = len(done.work)
        self._batcher.done(done.batch, done.service_s)
        self._queue_s += _QUEUE_WEIGHT * (done.queue_s - self._queue_s)
        self._last_batch_s = self._clock.monotonic()
        self._sink.emit(
            BatchDone(engine=self._name, size=size, queue_s=done.queue_s, service_s=done.service_s)
        )
        if self._spans is not None:
            answered = (lane.origin.traceparent for lane in done.answered)
            self._spans.record(self._name, size, done.queue_s, done.service_s, answered)
        for lane, inputs in done.work:
            result = done.results.get(lane)
            if isinstance(result, Future):
                self._defer(lane, inputs, result)
            else:
                self._settle(lane, inputs, result)
        self._decide_soon()

    def _defer(self, lane: Lane, inputs: tuple[EngineInput, ...], future: Future[None]) -> None:
        lane.deferred = future
        if lane.end is None:
            self._batcher.hold(lane.key)
        else:
            future.cancel()

        def done(future: Future[None]) -> None:
            cancelled = future.cancelled()
            error = CancelledError() if cancelled else future.exception()
            self._post(Late(lane, inputs, error))

        future.add_done_callback(done)

    def _finish_late(self, late: Late) -> None:
        late.lane.deferred = None
        self._batcher.release(late.lane.key, self._clock.monotonic())
        self._settle(late.lane, late.inputs, late.error)
        self._decide_soon()

    def _settle(
        self, lane: Lane, inputs: tuple[EngineInput, ...], error: BaseException | None
    ) -> None:
        lane.in_flight = False
        if lane.end is not None:
            self._close_session(lane)
        elif error is not None:
            self._fail(lane, error)
        else:
            lane.consumed += len(inputs)
            if lane.callbacks.on_progress is not None:
                tell(lane.callbacks.on_progress, lane.consumed)
            if lane.input_ended and lane.consumed == lane.accepted:
                finished = StreamFinishedError("the engine has said everything")
                if self._end(lane, finished):
                    tell(lane.callbacks.on_end, finished)

    def _fail(self, lane: Lane, error: BaseException) -> None:
        if isinstance(error, EngineError):
            failure = error
        else:
            failure = EngineError(
                f"engine {self._name} failed on stream {lane.name} ({type(error).__name__});"
                " others go on"
            )
            failure.__cause__ = error
            names = {"engine": self._name, "stream": lane.name}
            logger.error("engine failed on a stream", extra=names, exc_info=error)
        code = "config" if isinstance(failure, EngineConfigError) else "engine"
        self._sink.emit(StreamFailed(engine=self._name, code=code))
        self._end(lane, failure)
        tell(lane.callbacks.on_end, failure)

    def _end(self, lane: Lane, end: StreamEndedError | EngineError) -> bool:
        if lane.end is not None:
            return False
        lane.end = end
        del self._lanes[lane.key]
        self._batcher.close(lane.key)
        if lane.deferred is not None:
            lane.deferred.cancel()
        elif not lane.in_flight:
            self._close_session(lane)
        self._sink.emit(StreamsChanged(engine=self._name, open=len(self._lanes)))
        return True

    def _close_session(self, lane: Lane) -> None:
        try:
            lane.session.close()
        except Exception:
            logger.exception("session did not close", extra={"engine": self._name})
