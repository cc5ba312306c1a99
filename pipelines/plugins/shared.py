"""What the plugins have in common: the engine that serves them, its names, and their streams."""

import weakref
from typing import Generic, Protocol, TypeVar

from voxray.pipelines import runtime
from voxray.pipelines.engines.base import EngineInfo


class OpenStream(Protocol):
    """A stream of a plugin."""

    async def aclose(self) -> None:
        """End it."""
        ...


S = TypeVar("S", bound=OpenStream)


class SharedEngine(Generic[S]):
    """Mixed into a plugin of livekit-agents, before its own base class."""

    def __init__(self, engine: str) -> None:
        """Take the name of an engine, or its kind for the default one."""
        self._engine = engine
        self._info: EngineInfo | None = None
        self._streams: weakref.WeakSet[S] = weakref.WeakSet()

    @property
    def model(self) -> str:
        """The model that serves it; the engine's name before the first stream is open."""
        return self._info.model if self._info else self._engine

    @property
    def provider(self) -> str:
        """Who provides the model."""
        return self._info.provider if self._info else "voxray"

    def prewarm(self) -> None:
        """Have the engine loaded where it runs in this process."""
        runtime.prewarm(self._engine)

    def note_engine(self, info: EngineInfo) -> None:
        """Remember what serves the streams, for metrics and spans."""
        self._info = info

    async def aclose(self) -> None:
        """End all streams."""
        for stream in tuple(self._streams):
            await stream.aclose()
