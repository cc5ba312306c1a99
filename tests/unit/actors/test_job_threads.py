import asyncio
import contextvars
import threading

from voxray.actors.job_threads import ScopedExecutor
from voxray.actors.task_scope import TaskScope, install_task_factory


async def test_a_scope_that_fills_its_threads_starves_nobody_else():
    loop = asyncio.get_running_loop()
    restore = install_task_factory(loop)
    loop.set_default_executor(ScopedExecutor(thread_name_prefix="shared"))
    release = threading.Event()
    scopes = {name: TaskScope(name) for name in ("greedy", "modest")}

    def run_in(name, work):
        context = contextvars.copy_context()
        scopes[name].enter(context)
        return loop.create_task(asyncio.to_thread(work), context=context)

    held = [run_in("greedy", release.wait) for _ in range(100)]
    try:
        name = await asyncio.wait_for(run_in("modest", _thread_name), 10)
        assert name.startswith("modest")
        assert (await asyncio.to_thread(_thread_name)).startswith("shared")
    finally:
        release.set()
        await asyncio.gather(*held)
        for scope in scopes.values():
            scope.close_threads()
        restore()


async def test_what_waits_for_a_thread_is_dropped_with_its_scope():
    scope = TaskScope("over")
    release = threading.Event()
    threads = scope.threads()
    futures = [threads.submit(release.wait) for _ in range(100)]
    scope.close_threads()
    release.set()
    assert any(future.cancelled() for future in futures)
    TaskScope("never used").close_threads()


def _thread_name():
    return threading.current_thread().name
