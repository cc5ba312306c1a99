"""Where the plugins of this process find inference.

A session host installs its client to the shared replicas before its jobs run. Everywhere else
(the stock worker, `console`, a test) the engines run in this process, loaded when first used and
freed when it ends.
"""

import asyncio
import atexit
import threading
import weakref

from voxray.base.timing import SystemClock
from voxray.observability.events import NullSink
from voxray.pipelines.embedded import EmbeddedEngines, EmbeddedInferenceClient
from voxray.pipelines.streams import InferenceClient

_Clients = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, EmbeddedInferenceClient]


class _Runtime:
    """The state of the process, and the only module-level state of the plugins."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.installed: InferenceClient | None = None
        self.engines: EmbeddedEngines | None = None
        self.clients: _Clients = weakref.WeakKeyDictionary()

    def embedded(self) -> EmbeddedEngines:
        if self.engines is None:
            self.engines = EmbeddedEngines(NullSink(), SystemClock())
        return self.engines

    def here(self, loop: asyncio.AbstractEventLoop) -> InferenceClient:
        client = self.clients.get(loop)
        if client is None:
            client = self.clients[loop] = EmbeddedInferenceClient(self.embedded())
        return client


_runtime = _Runtime()


def install(client: InferenceClient) -> None:
    """Have all plugins of this process use a client, which belongs to the loop of the jobs."""
    with _runtime.lock:
        _runtime.installed = client


def uninstall(client: InferenceClient) -> None:
    """Take a client back that was installed; another one that replaced it stays."""
    with _runtime.lock:
        if _runtime.installed is client:
            _runtime.installed = None


def current() -> InferenceClient:
    """Return the client for the running event loop.

    Raises:
        RuntimeError: no event loop is running.
    """
    loop = asyncio.get_running_loop()
    with _runtime.lock:
        return _runtime.installed or _runtime.here(loop)


def local() -> InferenceClient:
    """Return the client for the running event loop to the engines of this very process.

    Raises:
        RuntimeError: no event loop is running.
    """
    loop = asyncio.get_running_loop()
    with _runtime.lock:
        return _runtime.here(loop)


def prewarm(engine: str, *, here: bool = False) -> None:
    """Begin to load an engine into this process.

    Where replicas serve the process they have theirs loaded: nothing is done then, unless the
    engine is wanted `here` all the same.
    """
    with _runtime.lock:
        if here or _runtime.installed is None:
            _runtime.embedded().warm(engine)


def shutdown() -> None:
    """Free the engines of this process. They are loaded anew if they are used again."""
    with _runtime.lock:
        engines, _runtime.engines = _runtime.engines, None
        _runtime.clients = weakref.WeakKeyDictionary()
    if engines is not None:
        engines.close()


atexit.register(shutdown)
