"""Scopes of tasks: who is in, and that all of them end."""

import asyncio
import gc
import weakref
from collections.abc import Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context

import pytest

from voxray.actors.task_scope import TaskScope, drop_cancelled_timers, install_task_factory


@pytest.fixture
async def _factory() -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    undo = install_task_factory(loop)
    yield
    undo()
    assert loop.get_task_factory() is before


pytestmark = pytest.mark.usefixtures("_factory")


def scoped() -> tuple[TaskScope, Context]:
    scope, context = TaskScope(), copy_context()
    scope.enter(context)
    return scope, context


async def forever() -> None:
    await asyncio.Event().wait()


def begin(
    coroutine: Coroutine[None, None, None], name: str = "", context: Context | None = None
) -> asyncio.Task[None]:
    return asyncio.create_task(coroutine, name=name, context=context)


async def test_tasks_of_a_context_and_their_children_are_in_its_scope() -> None:
    scope, context = scoped()
    other, other_context = scoped()

    async def parent() -> None:
        begin(forever(), "child")
        await forever()

    begin(parent(), "parent", context)
    begin(forever(), "other", other_context)
    outside = begin(forever(), "outside")
    await asyncio.sleep(0)
    assert sorted(task.get_name() for task in scope.running()) == ["child", "parent"]
    assert [task.get_name() for task in other.running()] == ["other"]
    assert await scope.cancel_all(deadline_s=1) == []
    assert scope.running() == []
    assert len(other.running()) == 1
    await other.cancel_all(deadline_s=1)
    outside.cancel()


async def test_a_task_that_nobody_keeps_is_not_lost() -> None:
    scope, context = scoped()
    begin(forever(), "kept", context)
    await asyncio.sleep(0)
    gc.collect()
    assert [task.get_name() for task in scope.running()] == ["kept"]
    await scope.cancel_all(deadline_s=1)


async def test_done_tasks_are_let_go() -> None:
    scope, context = scoped()
    task = begin(asyncio.sleep(0), "short", context)
    await task
    reference = weakref.ref(task)
    del task
    await asyncio.sleep(0)  # The loop itself holds it for this turn.
    assert scope.running() == []
    assert reference() is None


async def test_what_a_dying_task_starts_dies_too() -> None:
    scope, context = scoped()

    async def heir() -> None:
        try:
            await forever()
        finally:
            begin(forever(), "late")

    begin(heir(), "heir", context)
    await asyncio.sleep(0)
    assert await scope.cancel_all(deadline_s=1) == []


async def test_a_task_that_ignores_its_cancellation_is_named() -> None:
    scope, context = scoped()
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    begin(stubborn(), "stubborn", context)
    await asyncio.sleep(0)
    assert await scope.cancel_all(deadline_s=0, rounds=2) == ["stubborn"]
    release.set()
    await scope.cancel_all(deadline_s=1)


async def test_cancelled_timers_let_go_of_their_context() -> None:
    class Call:
        """Stands for a job."""

    variable: ContextVar[Call] = ContextVar("call")
    context = Context()
    call = Call()
    reference = weakref.ref(call)
    context.run(variable.set, call)
    loop = asyncio.get_running_loop()
    loop.call_later(300, lambda: None, context=context).cancel()
    del call, context
    gc.collect()
    assert reference() is not None
    drop_cancelled_timers(loop)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert reference() is None


async def test_a_scope_sees_its_own_tasks_and_may_cancel_all_of_them():
    loop = asyncio.get_running_loop()
    restore = install_task_factory(loop)
    other = loop.create_task(asyncio.Event().wait(), name="other")
    scope = TaskScope("AJ_1")
    context = copy_context()
    scope.enter(context)
    seen = set()

    async def cancel_everything():
        mine = loop.create_task(asyncio.Event().wait(), name="mine")
        await asyncio.sleep(0)
        seen.update(task.get_name() for task in asyncio.all_tasks())
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.wait({mine})

    try:
        canceller = loop.create_task(cancel_everything(), name="canceller", context=context)
        await asyncio.wait({canceller})
        assert seen == {"mine", "canceller"}
        assert canceller.cancelled()
        assert not other.done()
        assert other in asyncio.all_tasks()
        # Loops of their own that a program runs are not touched.
        assert await asyncio.to_thread(context.run, asyncio.run, _count_tasks()) == 2
    finally:
        other.cancel()
        await asyncio.wait({other})
        restore()


async def _count_tasks():
    beside = asyncio.get_running_loop().create_task(asyncio.sleep(0))
    count = len(asyncio.all_tasks())
    await beside
    return count
