"""Knows every task of a job, so that none outlives it.

Tasks inherit the context they are created in; a task factory on the loop enters each new task
into the scope of its context. (`asyncio.Task.get_context` exists only from Python 3.12 on.)
"""

import asyncio
import functools
import weakref
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# asyncio drops cancelled timers once they are more than 100 and more than half of all
# (`BaseEventLoop._run_once`); a full host has a few hundred timers that run.
_DECOY_TIMERS = 1000
_DECOY_DELAY_S = 3600.0

_scope: ContextVar["TaskScope | None"] = ContextVar("voxray_task_scope", default=None)


class TaskScope:
    """The tasks that were created in one context and in copies of it.

    It holds them until they are done: a program that keeps no reference to a task of its own
    would lose it to the garbage collector (as the asyncio documentation warns).

    Args:
        owner: whose tasks they are: a job's id.
    """

    def __init__(self, owner: str = "") -> None:
        self.owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads: ThreadPoolExecutor | None = None

    def enter(self, context: Context) -> None:
        """Make this the scope of `context`."""
        context.run(_scope.set, self)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Take a task in."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spare(self, task: asyncio.Task[Any]) -> None:
        """Let a task outlive this scope; whoever asks for it keeps a reference and ends it."""
        self._tasks.discard(task)

    def holds(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a task is one of these."""
        return task in self._tasks

    def threads(self) -> ThreadPoolExecutor:
        """Return the scope's own threads, as many as an event loop has by default."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(thread_name_prefix=self.owner or "scope")
        return self._threads

    def close_threads(self) -> None:
        """Let the threads go as they come back; what waits for one is dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def running(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done."""
        return [task for task in self._tasks if not task.done()]

    async def cancel_all(self, *, deadline_s: float, rounds: int = 3) -> list[str]:
        """Cancel what runs, also what is started meanwhile; return the names of what is left.

        Args:
            deadline_s: how long each round waits for its tasks.
            rounds: how often tasks that a dying task started are cancelled too.
        """
        for _ in range(rounds):
            tasks = self.running()
            if not tasks:
                return []
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=deadline_s)
        return sorted(task.get_name() for task in self.running())


def current_scope() -> TaskScope | None:
    """Return the scope of the running code."""
    return _scope.get()


def scope_of(context: Context | None) -> TaskScope | None:
    """Return the scope of a context."""
    return context.get(_scope) if context is not None else None


# Loops whose tasks belong to scopes.
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def hide_other_tasks() -> None:
    """Let `asyncio.all_tasks` show a scope only its own tasks of a shared loop. Idempotent.

    In a process of its own a program finds nothing but its own tasks there, and may cancel all.
    Call it before the program is imported: it may import the function by name.
    """
    original = asyncio.all_tasks
    if getattr(original, "voxray_scoped", False):
        return

    @functools.wraps(original)
    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        tasks = original(loop)
        scope = _scope.get()
        if scope is None:
            return tasks
        return {task for task in tasks if scope.holds(task) or task.get_loop() not in _loops}

    all_tasks.voxray_scoped = True  # type: ignore[attr-defined]  # a mark on our own function
    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks


def install_task_factory(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Enter new tasks of `loop` into their scopes; return a function that undoes it."""
    before = loop.get_task_factory()

    def factory(
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        **options: Any,
    ) -> asyncio.Future[T]:
        task: asyncio.Future[T] = (
            asyncio.Task(coroutine, loop=loop, **options)
            if before is None
            else before(loop, coroutine, **options)
        )
        context: Context | None = options.get("context")
        scope = _scope.get() if context is None else context.get(_scope)
        if scope is not None and isinstance(task, asyncio.Task):
            scope.add(task)
        return task

    def undo() -> None:
        loop.set_task_factory(before)
        _loops.discard(loop)

    hide_other_tasks()
    _loops.add(loop)
    loop.set_task_factory(factory)
    return undo


def drop_cancelled_timers(loop: asyncio.AbstractEventLoop) -> None:
    """Make asyncio forget its cancelled timers now instead of when they would have been due.

    A cancelled timer keeps its context, and with it the whole job, for as long as the timeout
    was that it stood for: up to five minutes in livekit-agents. Takes about a millisecond.
    """
    context = Context()
    for _ in range(_DECOY_TIMERS):
        loop.call_later(_DECOY_DELAY_S, _nothing, context=context).cancel()


def _nothing() -> None:
    pass
