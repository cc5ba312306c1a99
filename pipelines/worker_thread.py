"""One named thread that works for an event loop: functions go there, results come back."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from voxray.base.errors import DeadlineError

T = TypeVar("T")


class WorkerThread:
    """Runs functions one after the other, off the loop that made it.

    The thread is a daemon: native code that never returns must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], None]) -> None:
        """Run a function on the thread after those before it; it must not raise."""
        if self._closed:
            raise RuntimeError(f"thread {self._thread.name} got work after its close")
        self._work.put(function)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function on the thread and return what it returns, or raise what it raises."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = function()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(value)

        self.submit(run)
        return await asyncio.wrap_future(future)

    def post(self, callback: Callable[[], None]) -> None:
        """Run a callback on the loop; from any thread."""
        # A closed loop waits for nothing any more: there is nobody to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    async def aclose(self, deadline_s: float) -> None:
        """Let what was submitted run to its end, then end the thread. Idempotent.

        Raises:
            DeadlineError: it still runs after `deadline_s`; it is left behind.
        """
        if not self._closed:
            self._closed = True
            self._work.put(None)
        done, _ = await asyncio.wait([self._ended], timeout=deadline_s)
        if not done:
            raise DeadlineError(
                f"thread {self._thread.name} still works {deadline_s} s after its close; "
                "it is left behind"
            )
        self._thread.join()

    def _run(self) -> None:
        while (function := self._work.get()) is not None:
            function()
        self.post(lambda: self._ended.set_result(None))
