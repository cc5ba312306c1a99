"""Threads for what jobs hand to the event loop's default executor: a pool of its own for each.

A program that fills the threads of `asyncio.to_thread` with calls that never return starves
nobody but itself, as in a process of its own.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from voxray.actors.task_scope import current_scope

P = ParamSpec("P")
T = TypeVar("T")


class ScopedExecutor(ThreadPoolExecutor):
    """A default executor whose work goes to the pool of the task scope that it comes from."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function on a thread of the caller's scope, or of ours outside of any."""
        scope = current_scope()
        if scope is None:
            return super().submit(fn, *args, **kwargs)
        return scope.threads().submit(fn, *args, **kwargs)
