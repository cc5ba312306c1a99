"""How late an event loop runs its timers: the one figure that tells an overloaded process."""

import asyncio
from collections.abc import Callable

_INTERVAL_S = 0.25


class LoopLagProbe:
    """A timer on a loop that reports how late it was run.

    Start and stop it on the loop it watches.
    """

    def __init__(self, on_lag: Callable[[float], None], *, interval_s: float = _INTERVAL_S) -> None:
        self._on_lag = on_lag
        self._interval_s = interval_s
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin on the running loop. Idempotent."""
        if self._handle is None:
            self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        """End. Idempotent and safe before start."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._interval_s
        self._handle = loop.call_at(due, self._fire, loop, due)

    def _fire(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._on_lag(max(0.0, loop.time() - due))
        self._arm(loop)
