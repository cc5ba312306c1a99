"""The engines of one process: loaded once, shared by the streams of all calls.

A replica's gRPC server and the embedded client of a program outside voxray are both thin layers
over this. Everything here belongs to one event loop: calls are made on it and callbacks come on
it; only the engines' own work runs elsewhere (`executor.py`).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from voxray.base.errors import CapacityError, EngineConfigError, EngineError, ProtocolError
from voxray.base.timing import Clock
from voxray.observability.events import EventSink, StreamFailed
from voxray.observability.tracing import Tracing
from voxray.pipelines.audio import StreamResampler, pcm_to_samples
from voxray.pipelines.batch_spans import BatchSpans
from voxray.pipelines.batching import BatchLimits
from voxray.pipelines.engines.base import (
    AudioInput,
    Engine,
    EngineInfo,
    EngineInput,
    EngineKind,
    TextInput,
)
from voxray.pipelines.engines.registry import EngineSpec, check_names, default_engine
from voxray.pipelines.executor import EngineExecutor
from voxray.pipelines.lanes import (
    NOWHERE,
    EndCallback,
    Lane,
    LaneCallbacks,
    OutputCallback,
    ProgressCallback,
    StreamOrigin,
)

logger = logging.getLogger(__name__)

__all__ = [
    "EndCallback",
    "EngineHost",
    "EngineStream",
    "OutputCallback",
    "ProgressCallback",
    "StreamOrigin",
]


class EngineStream:
    """One engine listening or speaking for one call. Never blocks. Made by `EngineHost.open`."""

    def __init__(self, executor: EngineExecutor, lane: Lane) -> None:
        self._executor = executor
        self._lane = lane
        self._resampler: StreamResampler | None = None

    @property
    def info(self) -> EngineInfo:
        """The engine that serves the stream."""
        return self._executor.engine.info

    @property
    def accepted(self) -> int:
        """Inputs accepted by `push` and `push_pcm` since the stream opened."""
        return self._lane.accepted

    @property
    def consumed(self) -> int:
        """Inputs that were worked through, their results handed out; never goes back."""
        return self._lane.consumed

    @property
    def pending(self) -> int:
        """Inputs accepted and not yet worked through."""
        return self._lane.accepted - self._lane.consumed

    def push(self, item: EngineInput) -> bool:
        """Queue one input; return False when the stream's bound is full and it was not taken.

        Audio must be at the engine's rate. `FlushInput` and `EndOfInput` are always taken (of
        flushes in a row, a full queue keeps one).

        Raises:
            ProtocolError: text for an engine that hears, or audio for one that speaks.
            StreamEndedError: the stream was closed, finished, or its input has ended.
            EngineError: the stream has failed.
        """
        speaks = self.info.kind is EngineKind.TTS
        if isinstance(item, AudioInput if speaks else TextInput):
            wanted, got = ("text", "audio") if speaks else ("audio", "text")
            raise ProtocolError(f"engine {self.info.name} takes {wanted} and was given {got}")
        return self._executor.push(self._lane, item)

    def push_pcm(self, pcm: bytes, rate: int) -> bool:
        """Queue 16-bit little-endian mono PCM at `rate` Hz, resampled to the engine's rate.

        Counts as one input. Returns False when the bound is full: it is lost then.

        Raises:
            ProtocolError: an odd number of bytes, a rate outside 8 to 192 kHz, or audio for an
                engine that speaks.
            StreamEndedError: the stream was closed, finished, or its input has ended.
            EngineError: the stream has failed.
        """
        if self._resampler is None or self._resampler.from_rate != rate:
            self._resampler = StreamResampler(rate, self.info.sample_rate)
        return self.push(AudioInput(self._resampler.push(pcm_to_samples(pcm))))

    def close(self) -> None:
        """Abandon the stream: what is queued is dropped and no callback comes any more.

        Idempotent.
        """
        self._executor.close(self._lane)


class EngineHost:
    """Loads engines, opens streams to them, and counts."""

    def __init__(  # noqa: PLR0913 - each is one thing of its own
        self,
        engines: Sequence[str | EngineSpec | Engine],
        *,
        max_streams: int,
        latency_budget_ms: float,
        max_batch: int,
        sink: EventSink,
        clock: Clock,
        tracing: Tracing | None = None,
    ) -> None:
        """Prepare; nothing is imported or loaded before `start`.

        Args:
            engines: names in the registry, with settings or without, or engines; the first of a
                kind is its default.
            max_streams: streams that may be open at once, over all engines.
            latency_budget_ms: longest time that an input is held back for company.
            max_batch: streams in one batch at most; an engine may set itself a lower bound.
            sink: takes the events.
            clock: tells the time.
            tracing: takes the spans of batches; None makes none.
        """
        self._wanted = tuple(
            EngineSpec(wanted) if isinstance(wanted, str) else wanted for wanted in engines
        )
        self._max_streams = max_streams
        self._latency_budget_s = latency_budget_ms / 1000
        self._max_batch = max_batch
        self._sink = sink
        self._clock = clock
        self._spans = None if tracing is None else BatchSpans(tracing, clock)
        self._executors: dict[str, EngineExecutor] = {}
        self._closed = False
        self._draining = False

    @property
    def streams(self) -> int:
        """Streams that are open now, over all engines."""
        return sum(executor.streams for executor in self._executors.values())

    @property
    def max_streams(self) -> int:
        """Streams that may be open at once; none while it drains."""
        return 0 if self._draining else self._max_streams

    @property
    def draining(self) -> bool:
        """Whether no more streams are opened."""
        return self._draining

    def drain(self) -> None:
        """Open no more streams; those that are open go on. Idempotent."""
        self._draining = True

    @property
    def queue_s(self) -> float:
        """Smoothed seconds that work waited before its batch ran, of the slowest engine."""
        return max((executor.queue_s for executor in self._executors.values()), default=0.0)

    def infos(self) -> tuple[EngineInfo, ...]:
        """Return what is hosted, in the order it was asked for; nothing before `start`."""
        return tuple(executor.engine.info for executor in self._executors.values())

    async def start(self) -> None:
        """Import and load all engines, off the loop and side by side.

        Raises:
            EngineConfigError: an engine is unknown, or its model can't be loaded; nothing of
                the others is left running.
        """
        specs = [wanted for wanted in self._wanted if isinstance(wanted, EngineSpec)]
        check_names([spec.name for spec in specs])
        # Imports of heavy libraries block the loop for long; one thread, as they share a lock.
        created = await asyncio.to_thread(lambda: {spec.name: spec.create() for spec in specs})
        for wanted in self._wanted:
            engine = created[wanted.name] if isinstance(wanted, EngineSpec) else wanted
            if engine.info.name in self._executors:
                raise EngineConfigError(f"two engines are called {engine.info.name}")
            self._executors[engine.info.name] = self._execute(engine)
        starts = (executor.start() for executor in self._executors.values())
        try:
            results = await asyncio.gather(*starts, return_exceptions=True)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        for error in results:
            if error is not None:
                await self.aclose()
                raise error

    def open(
        self,
        engine: str,
        options: Mapping[str, Any],
        *,
        on_output: OutputCallback,
        on_end: EndCallback,
        on_progress: ProgressCallback | None = None,
        origin: StreamOrigin = NOWHERE,
    ) -> EngineStream:
        """Open a stream to an engine, by its name or its kind (`vad`, `stt`, `tts`).

        All callbacks come on the event loop, never from within `open`, `push` or `close`.

        Args:
            engine: the engine's name; a kind takes the first engine of that kind.
            options: the engine's own options.
            on_output: called for each result, in order.
            on_end: called once, last: `StreamFinishedError` after `EndOfInput` when all was
                said, `EngineError` when the engine failed on this stream,
                `StreamClosedError` when the host closes. Not called after `close`.
            on_progress: called with the new `consumed` after results were handed out.
            origin: where the stream comes from, for logs, errors and spans.

        Raises:
            EngineConfigError: no such engine, or it can't do what the options ask.
            EngineError: the engine failed on the options.
            CapacityError: `max_streams` are open already, or the host is closed.
        """
        executor = self._find(engine)
        name = executor.engine.info.name
        if self._closed or self.streams >= self.max_streams:
            self._sink.emit(StreamFailed(engine=name, code="limit"))
            reason = f"all {self._max_streams} are in use"
            if self._closed or self._draining:
                reason = "the replica is closing"
            raise CapacityError(f"no stream to engine {name}: {reason}")
        try:
            session = executor.engine.open(options)
        except EngineConfigError:
            self._sink.emit(StreamFailed(engine=name, code="config"))
            raise
        except Exception as error:
            # Third-party code, and options that a peer made up: it is this stream's alone.
            self._sink.emit(StreamFailed(engine=name, code="engine"))
            logger.exception("engine did not open a stream", extra={"engine": name})
            raise EngineError(
                f"engine {name} failed to open a stream ({type(error).__name__})"
            ) from error
        callbacks = LaneCallbacks(on_output=on_output, on_end=on_end, on_progress=on_progress)
        return EngineStream(executor, executor.open(session, callbacks, origin))

    async def aclose(self) -> None:
        """End all streams and free the engines. Idempotent and safe before `start`.

        Raises:
            DeadlineError: an engine does not stop; the others are freed.
        """
        self._closed = True
        closes = (executor.aclose() for executor in self._executors.values())
        results = await asyncio.gather(*closes, return_exceptions=True)
        for error in results:
            if error is not None:
                raise error

    def _execute(self, engine: Engine) -> EngineExecutor:
        info = engine.info
        limits = BatchLimits(
            max_batch=min(self._max_batch, info.max_batch),
            latency_budget_s=self._latency_budget_s,
            inputs_per_turn=info.inputs_per_turn,
        )
        return EngineExecutor(
            engine, limits=limits, sink=self._sink, clock=self._clock, spans=self._spans
        )

    def _find(self, engine: str) -> EngineExecutor:
        if engine in self._executors:
            return self._executors[engine]
        infos = self.infos()
        info = default_engine(engine, infos)
        if info is None:
            here = ", ".join(f"{info.name} ({info.kind})" for info in infos) or "none"
            raise EngineConfigError(f"no engine {engine!r} in this replica; it has: {here}")
        return self._executors[info.name]
