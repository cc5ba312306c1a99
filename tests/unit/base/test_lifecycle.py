import asyncio
import contextvars
import logging
import threading

import pytest

from voxray.base.errors import DeadlineError
from voxray.base.lifecycle import LoopThread, TaskOwner


async def forever():
    await asyncio.Event().wait()


async def test_tasks_carry_the_owners_name_and_end_with_it():
    owner = TaskOwner("host")
    task = owner.spawn("job", forever())
    assert task.get_name() == "host:job"
    assert len(owner) == 1
    await owner.aclose()
    assert task.cancelled()
    assert len(owner) == 0


async def test_close_is_idempotent_and_safe_before_anything():
    owner = TaskOwner("host")
    await owner.aclose()
    await owner.aclose()


async def test_results_are_handed_out():
    async def answer():
        return 42

    owner = TaskOwner("host")
    assert await owner.spawn("answer", answer()) == 42
    await owner.aclose()


async def test_a_task_after_close_is_a_mistake_and_never_runs():
    owner = TaskOwner("host")
    await owner.aclose()
    late = forever()
    with pytest.raises(RuntimeError, match="late was started after its owner host closed"):
        owner.spawn("late", late)
    # Closed, not forgotten: a coroutine that was never awaited would warn.
    with pytest.raises(RuntimeError):
        late.send(None)


async def test_a_failure_is_reported_once_and_harms_no_neighbour():
    failures = []
    owner = TaskOwner("host", on_failure=lambda name, error: failures.append((name, error)))
    neighbour = owner.spawn("neighbour", forever())
    fault = ValueError("broken")

    async def fail():
        raise fault

    await asyncio.wait([owner.spawn("bad", fail())])
    assert failures == [("host:bad", fault)]
    assert not neighbour.done()
    await owner.aclose()
    assert len(failures) == 1


async def test_a_failure_is_logged_unless_someone_takes_it(caplog):
    async def fail():
        raise ValueError("broken")

    owner = TaskOwner("host")
    with caplog.at_level(logging.ERROR):
        await asyncio.wait([owner.spawn("bad", fail())])
    (record,) = caplog.records
    assert (record.getMessage(), record.task) == ("task failed", "host:bad")
    assert isinstance(record.exc_info[1], ValueError)
    await owner.aclose()


async def test_a_task_that_ignores_its_cancellation_is_named():
    release = asyncio.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    owner = TaskOwner("host")
    task = owner.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    with pytest.raises(DeadlineError, match="host:stubborn"):
        await owner.aclose(deadline_s=0.01)
    release.set()
    await task


async def test_a_task_may_close_its_own_owner():
    owner = TaskOwner("host")
    other = owner.spawn("other", forever())

    async def last():
        await owner.aclose()
        return "closed"

    assert await owner.spawn("last", last()) == "closed"
    assert other.cancelled()


async def test_a_task_runs_in_the_context_it_was_given():
    variable = contextvars.ContextVar("variable", default="outside")
    context = contextvars.copy_context()
    context.run(variable.set, "inside")

    async def read():
        return variable.get()

    owner = TaskOwner("host")
    assert await owner.spawn("in", read(), context=context) == "inside"
    assert await owner.spawn("out", read()) == "outside"
    await owner.aclose()


@pytest.fixture
def loop_thread():
    thread = LoopThread("jobs")
    yield thread
    thread.stop()


def test_a_loop_thread_runs_coroutines_on_its_own_thread(loop_thread):
    async def where():
        return threading.current_thread().name, threading.get_ident()

    assert loop_thread.call(where(), timeout_s=10) == ("jobs", loop_thread.thread_id)
    assert loop_thread.submit(where()).result(10)[0] == "jobs"


def test_errors_come_back_as_they_were(loop_thread):
    async def fail():
        raise KeyError("broken")

    async def time_out():
        raise TimeoutError("of the coroutine's own")

    with pytest.raises(KeyError, match="broken"):
        loop_thread.call(fail(), timeout_s=10)
    with pytest.raises(TimeoutError, match="of the coroutine's own"):
        loop_thread.call(time_out(), timeout_s=10)


def test_a_blocked_loop_is_a_deadline_with_its_name(loop_thread):
    free = threading.Event()
    blocked = threading.Event()

    def block():
        blocked.set()
        free.wait(10)

    loop_thread.loop.call_soon_threadsafe(block)
    assert blocked.wait(10)
    with pytest.raises(DeadlineError, match="loop jobs gave no answer within"):
        loop_thread.call(asyncio.sleep(0), timeout_s=0.01)
    free.set()


def test_a_call_past_its_deadline_is_cancelled(loop_thread):
    ended = threading.Event()

    async def wait():
        try:
            await forever()
        finally:
            ended.set()

    with pytest.raises(DeadlineError):
        loop_thread.call(wait(), timeout_s=0.05)
    assert ended.wait(10)


def test_stop_cancels_what_runs_and_is_idempotent():
    thread = LoopThread("jobs")
    started, ended = threading.Event(), threading.Event()

    async def wait():
        started.set()
        try:
            await forever()
        finally:
            ended.set()

    future = thread.submit(wait())
    assert started.wait(10)
    thread.stop()
    thread.stop()
    assert ended.is_set()
    assert future.cancelled()
    assert thread.loop.is_closed()


async def test_tasks_belong_to_their_owner_and_not_to_who_starts_them() -> None:
    owned: contextvars.ContextVar[str] = contextvars.ContextVar("owned", default="nobody")
    owner = TaskOwner("shared")

    async def read() -> str:
        return owned.get()

    async def one_call() -> tuple[str, str]:
        owned.set("this call")
        own = contextvars.copy_context()
        return await owner.spawn("a", read()), await owner.spawn("b", read(), context=own)

    assert await asyncio.create_task(one_call()) == ("nobody", "this call")
    await owner.aclose()
