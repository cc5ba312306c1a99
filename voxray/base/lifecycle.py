"""Owned tasks and event-loop threads: who started it ends it, with a deadline."""

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from voxray.base.errors import DeadlineError

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Lifecycle(Protocol):
    """What every long-lived component offers. `aclose` is idempotent and safe before `start`."""

    async def start(self) -> None:
        """Begin; raises what makes a start impossible."""
        ...

    async def aclose(self) -> None:
        """Stop everything that was started, within a deadline of the component's own."""
        ...


class TaskOwner:
    """A set of named tasks that ends with its owner.

    A task that fails is reported once to `on_failure` (default: logged with its traceback)
    and leaves the others alone. Tasks run in the context in which their owner was made, not in
    that of whoever makes it start one: a connection that all calls of a process share must not
    belong to the call that happened to need it first.
    """

    def __init__(
        self, name: str, on_failure: Callable[[str, BaseException], None] | None = None
    ) -> None:
        self._name = name
        self._on_failure = on_failure or self._log_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = contextvars.copy_context()
        self._closed = False

    def spawn(
        self,
        name: str,
        coroutine: Coroutine[Any, Any, T],
        *,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task that this owner ends. A coroutine given after close is closed unrun."""
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"task {name} was started after its owner {self._name} closed")
        task = asyncio.create_task(
            coroutine, name=f"{self._name}:{name}", context=context or self._context.copy()
        )
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    async def aclose(self, deadline_s: float = 5.0) -> None:
        """Cancel all tasks and wait for them.

        Raises:
            DeadlineError: a task did not end within `deadline_s` after its cancellation.
        """
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=deadline_s)
        if pending:
            names = ", ".join(sorted(task.get_name() for task in pending))
            raise DeadlineError(
                f"{self._name}: tasks still run {deadline_s} s after their cancellation: {names}"
            )

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(task.get_name(), error)

    def _log_failure(self, name: str, error: BaseException) -> None:
        logger.error("task failed", extra={"task": name}, exc_info=error)


class LoopThread:
    """An event loop on a thread of its own, for Ray actors.

    A sync Ray actor runs `__init__` on the process's main thread, where livekit-agents insists
    on registering plugins; everything asynchronous runs on such a loop beside it, so that the
    actor's methods answer even while the loop is blocked.

    `sys.exit()` and `loop.stop()` of whatever runs on it do not end it, only `stop` does.
    """

    def __init__(self, name: str, on_escape: Callable[[BaseException], None] | None = None) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            on_escape: told of a SystemExit or KeyboardInterrupt that left the loop, on its thread;
                by default they are logged.
        """
        self._name = name
        self._on_escape = on_escape or self._log_escape
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; hand work to it with `submit` or `call_soon_threadsafe` only."""
        return self._loop

    @property
    def thread_id(self) -> int:
        """The thread's identifier, as `sys._current_frames` uses it."""
        return self._thread.ident or 0

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop from another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine on the loop and wait for its result.

        Raises:
            DeadlineError: no result within `timeout_s`; the coroutine is cancelled.
        """
        future = self.submit(coroutine)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            if future.done():  # The coroutine itself raised TimeoutError.
                raise
            future.cancel()
            raise DeadlineError(
                f"loop {self._name} gave no answer within {timeout_s} s: it is blocked or busy"
            ) from error

    def stop(self, timeout_s: float = 5.0) -> None:
        """Cancel what still runs, stop the loop, and join the thread. Idempotent."""
        if not self._thread.is_alive():
            return
        self._stopping = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._run_until_stopped()
        finally:
            leftovers = asyncio.all_tasks(self._loop)
            for task in leftovers:
                task.cancel()
            if leftovers:
                self._loop.run_until_complete(asyncio.wait(leftovers, timeout=2.0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _run_until_stopped(self) -> None:
        """Run the loop again after everything that leaves it but our own `stop`."""
        while True:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # It comes again from each task that awaits the one that raised it. Kept in itself:
                # its traceback holds everything of the call.
                if not getattr(error, "voxray_told", False):
                    error.voxray_told = True  # type: ignore[union-attr]  # a mark of our own
                    self._on_escape(error)
                if self._stopping:
                    # Our own stop may be what it pushed aside.
                    self._loop.call_soon(self._loop.stop)
                continue
            if self._stopping:
                return
            logger.warning(
                "an event loop was stopped by what runs on it, it goes on",
                extra={"loop": self._name},
            )

    def _log_escape(self, error: BaseException) -> None:
        logger.error(
            "%s left the event loop, it goes on",
            type(error).__name__,
            extra={"loop": self._name},
            exc_info=error,
        )
