"""Waits for a state to come about, woken by whatever changes it, up to a limit."""

import asyncio
from collections.abc import Callable


class Changes:
    """Tells everybody who waits on one event loop that something changed."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Say that something changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `reached` returns True; return False when it did not in `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not reached():
            left = deadline - loop.time()
            if left <= 0:
                return False
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait({waiter}, timeout=left)
            finally:
                self._waiters.discard(waiter)
        return True
