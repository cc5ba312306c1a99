"""Inference in the program's own process, for a program that runs outside voxray.

The engines live on an event loop of a thread of their own, one set for the process: jobs of the
stock worker may run on several loops, and a model is loaded once. Only what is asked for is
loaded.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from voxray.base.errors import ConfigError, DeadlineError, StreamClosedError, VoxrayError
from voxray.base.lifecycle import LoopThread, TaskOwner
from voxray.base.settings import configured_engine
from voxray.base.timing import Clock
from voxray.observability.events import EventSink
from voxray.pipelines.embedded_stream import EmbeddedStream
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.phrase_cache import PhraseCache
from voxray.pipelines.engines.registry import EngineSpec
from voxray.pipelines.streams import LIVE, InferenceStream, StreamTerms

logger = logging.getLogger(__name__)

DEFAULT_ENGINES: Mapping[str, str] = {
    "vad": "silero",
    "stt": "pocketsphinx",
    "tts": "espeak",
    "turn": "eot",
}
"""The engine that a kind means where nobody configured one: those of the default replica group, and
the one engine of turns that there is."""

_MAX_STREAMS = 512
_MAX_BATCH = 64
_PHRASE_CACHE_BYTES = 32 * 2**20
# As `ReplicaGroupSettings`.
_LATENCY_BUDGET_MS = 0.0
# A program of its own has few calls: there is nothing to wait for.
_CLOSE_TIMEOUT_S = 5.0

HostFactory = Callable[[str], EngineHost]


class EmbeddedEngines:
    """The engines of this process, each loaded when it is first asked for. Safe on any thread."""

    def __init__(self, sink: EventSink, clock: Clock, hosts: HostFactory | None = None) -> None:
        self._sink = sink
        self._clock = clock
        self._new_host = hosts or self._engine_host
        self._thread = LoopThread("voxray-engines")
        self._starts = TaskOwner("voxray-engines", on_failure=_told_to_waiters)
        self._hosts: dict[str, asyncio.Task[EngineHost]] = {}
        self._phrases = PhraseCache(_PHRASE_CACHE_BYTES, sink)
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the engines run on."""
        return self._thread.loop

    def warm(self, engine: str) -> None:
        """Begin to load an engine, without waiting. What fails is told to who opens a stream."""
        if not self._closed:
            self._thread.submit(self._warm(engine))

    async def open(self, engine: str, options: Mapping[str, Any], stream: EmbeddedStream) -> None:
        """Connect a stream of the caller's loop to an engine.

        Raises:
            EngineConfigError: no such engine, or it can't do what the options ask.
            CapacityError: too many streams are open.
            StreamClosedError: the engines were closed.
        """
        if self._closed:
            raise StreamClosedError(
                f"engine {engine} was asked for after the engines of this process were closed"
            )
        await asyncio.wrap_future(self._thread.submit(self._open(engine, options, stream)))

    def close(self) -> None:
        """Free all engines and end their thread. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            self._thread.call(self._aclose(), _CLOSE_TIMEOUT_S)
        except (DeadlineError, VoxrayError) as error:
            logger.warning("engines did not close in order", extra={"reason": str(error)})
        self._thread.stop()

    async def _open(self, engine: str, options: Mapping[str, Any], stream: EmbeddedStream) -> None:
        host = await self._host(engine)
        opened = host.open(
            host.infos()[0].name,
            options,
            on_output=stream.deliver,
            on_end=stream.end,
            on_progress=stream.progress,
        )
        stream.connect(opened, self._sink)

    async def _host(self, engine: str) -> EngineHost:
        name = DEFAULT_ENGINES.get(engine, engine)
        start = self._hosts.get(name)
        if start is None or (start.done() and start.exception() is not None):
            start = self._starts.spawn(f"load-{name}", self._load(name))
            self._hosts[name] = start
        # Shielded: one caller that gives up must not end the load that others wait for.
        return await asyncio.shield(start)

    async def _load(self, name: str) -> EngineHost:
        host = self._new_host(name)
        await host.start()
        logger.info("engine loaded into this process", extra={"engine": name})
        return host

    async def _warm(self, engine: str) -> None:
        with contextlib.suppress(VoxrayError):
            await self._host(engine)

    async def _aclose(self) -> None:
        started = [task for task in self._hosts.values() if task.done() and not task.cancelled()]
        await self._starts.aclose()
        for task in started:
            if task.exception() is None:
                await task.result().aclose()
        # Engines are imported on it; its threads would outlive the loop by a moment.
        await asyncio.get_running_loop().shutdown_default_executor()

    def _engine_host(self, name: str) -> EngineHost:
        return EngineHost(
            [EngineSpec(name, configured_settings(name), self._phrases)],
            max_streams=_MAX_STREAMS,
            latency_budget_ms=_LATENCY_BUDGET_MS,
            max_batch=_MAX_BATCH,
            sink=self._sink,
            clock=self._clock,
        )


class EmbeddedInferenceClient:
    """Opens streams to the engines of this process, for one event loop."""

    def __init__(self, engines: EmbeddedEngines) -> None:
        self._engines = engines
        self._streams: set[EmbeddedStream] = set()
        self._closed = False

    async def open(
        self,
        engine: str,
        options: Mapping[str, Any],
        *,
        traceparent: str = "",  # noqa: ARG002 - what happens in this process is in its own trace
        terms: StreamTerms = LIVE,
    ) -> InferenceStream:
        """Open a stream to an engine, named by its name or its kind.

        Raises:
            EngineConfigError: no such engine, or it can't do what the options ask.
            CapacityError: too many streams are open.
            StreamClosedError: the client was closed.
        """
        if self._closed:
            raise StreamClosedError(f"engine {engine} was asked for after the client was closed")
        stream = EmbeddedStream(
            self._engines.loop,
            on_close=lambda: self._streams.discard(stream),
            recording_s=terms.recording_s,
        )
        self._streams.add(stream)
        try:
            await self._engines.open(engine, options, stream)
        except BaseException:
            # Also when the caller gave up: the engine may have opened just then.
            await stream.aclose()
            raise
        return stream

    async def aclose(self) -> None:
        """End all streams of this loop; the engines stay for the others. Idempotent."""
        self._closed = True
        for stream in tuple(self._streams):
            await stream.aclose()


def configured_settings(engine: str) -> Mapping[str, Any]:
    """Return the engine's settings in the settings file of the working folder.

    A program outside voxray must not end because of a file that is not its own: where it can't
    be read, the engine gets no settings.
    """
    try:
        return configured_engine(engine)
    except ConfigError as error:
        logger.warning(
            "the settings can't be read: the engine gets none",
            extra={"engine": engine, "reason": str(error)},
        )
        return {}


def _told_to_waiters(_name: str, _error: BaseException) -> None:
    """Who asked for the engine gets the error: it is not logged a second time."""
