"""Knows every task of a job, so that none outlives it.

Tasks inherit the context they are created in; a task factory on the loop enters each new task
into the scope of its context. (`asyncio.Task.get_context` exists only from Python 3.12 on.)
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
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
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def enter(self, context: Context) -> None:
        """Make this the scope of `context`."""
        context.run(_scope.set, self)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Take a task in."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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

    loop.set_task_factory(factory)
    return lambda: loop.set_task_factory(before)


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
