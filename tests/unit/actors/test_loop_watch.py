import asyncio
import contextvars
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxray.actors import loop_watch
from voxray.actors.loop_watch import (
    Block,
    BlockDetector,
    Blocked,
    BlockThresholds,
    Freed,
    LoopWatch,
    scope_of_traceback,
    thresholds,
)
from voxray.actors.task_scope import TaskScope, current_scope, install_task_factory
from voxray.base.lifecycle import LoopThread
from voxray.observability.loop_lag import LoopLagProbe

LIMITS = BlockThresholds(report_s=0.1, error_s=0.5)


@pytest.mark.parametrize(
    ("report_s", "environment", "expected"),
    [
        (0.5, {}, (0.5, 0.5)),
        (0.2, {}, (0.2, 0.5)),
        (1.0, {}, (1.0, 1.0)),
        (0.0, {}, None),
        (0.5, {loop_watch.WARN_MS: "100"}, (0.1, 0.5)),
        (0.5, {loop_watch.WARN_MS: "100", loop_watch.ERROR_MS: "2000"}, (0.1, 2.0)),
        (0.5, {loop_watch.WARN_MS: "0"}, None),
        (0.0, {loop_watch.WARN_MS: "50"}, (0.05, 0.5)),
        (0.5, {loop_watch.WARN_MS: "soon", loop_watch.ERROR_MS: "-1"}, (0.5, 0.5)),
        (0.5, {loop_watch.WARN_MS: "inf"}, (0.5, 0.5)),
    ],
)
def test_the_variables_of_livekit_agents_count_more(report_s, environment, expected):
    found = thresholds(report_s, environment)
    assert (found and (found.report_s, found.error_s)) == expected


class Process:
    """A loop and a detector beside it, in virtual time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.detector = BlockDetector(0.5, 0.1, self.now)
        self.ticks = 0
        self.ticked_at = self.now
        self.cpu_s = 0.0
        self.worst = 0.0

    def tick(self, late_s: float = 0.0) -> None:
        self.ticks += 1
        self.ticked_at = self.now
        self.worst = max(self.worst, late_s)

    def look(self, after_s: float = 0.1, *, used_s: float = 0.0) -> Blocked | Freed | None:
        self.now += after_s
        self.cpu_s += used_s
        worst, self.worst = self.worst, 0.0
        return self.detector.look(
            self.now,
            ticks=self.ticks,
            ticked_at=self.ticked_at,
            worst_late_s=worst,
            cpu_s=self.cpu_s,
        )


def test_a_block_is_seen_once_while_it_lasts_and_measured_after():
    process = Process()
    process.tick()
    seen = [process.look() for _ in range(20)]
    (blocked,) = [each for each in seen if each is not None]
    assert isinstance(blocked, Blocked)
    assert blocked.seconds == pytest.approx(0.5, abs=0.11)
    process.tick(late_s=1.95)
    assert process.look() == Freed(seconds=1.95, told=True)
    process.tick()
    assert process.look() is None


def test_a_process_that_stood_still_blocked_nothing():
    process = Process()
    process.tick()
    process.look()
    assert process.look(5.0) is None
    process.tick(late_s=4.9)
    assert process.look() is None


def test_native_code_that_held_the_interpreter_is_told_of_afterwards():
    process = Process()
    process.tick()
    process.look()
    process.now += 3.0
    process.tick(late_s=2.9)
    assert process.look(0.05, used_s=3.0) == Freed(seconds=2.9, told=False)


@given(st.lists(st.tuples(st.floats(0.01, 0.4), st.booleans()), max_size=60))
def test_every_block_that_is_told_ends_and_none_is_told_twice(steps):
    process = Process()
    open_block = False
    for pause, runs in steps:
        if runs:
            process.tick(late_s=max(0.0, process.now - process.ticked_at - 0.1))
        seen = process.look(pause)
        if isinstance(seen, Blocked):
            assert not open_block
            open_block = True
        elif isinstance(seen, Freed):
            assert seen.told == open_block
            open_block = False


def _scoped(scope: TaskScope, run) -> None:
    """Enter the scope in the running context, then run."""
    context = contextvars.copy_context()
    scope.enter(context)
    context.run(run)


@pytest.mark.parametrize("how", ["task", "callback"])
def test_the_job_that_blocks_is_found_with_its_stack_while_it_blocks(how):
    told: list[Block] = []
    freed = threading.Event()
    seen = threading.Event()
    lengths: list[float] = []

    def on_blocked(block: Block) -> None:
        told.append(block)
        seen.set()

    def on_freed(block: Block) -> None:
        lengths.append(block.seconds)
        assert block.owner in {"AJ_2", ""}
        if block.owner:
            freed.set()

    def hold_the_loop() -> None:
        assert current_scope() is not None
        # Until the watch has seen it: the block lasts while it is reported.
        assert seen.wait(20)

    async def hold() -> None:
        hold_the_loop()

    thread = LoopThread("watched")
    watch = LoopWatch(LIMITS, on_blocked=on_blocked, on_freed=on_freed)
    probe = LoopLagProbe(watch.ticked, interval_s=LIMITS.interval_s)

    async def start() -> None:
        install_task_factory(asyncio.get_running_loop())
        watch.start()
        probe.start()

    async def block() -> None:
        loop = asyncio.get_running_loop()
        for owner in ("AJ_1", "AJ_2", "AJ_3"):
            scope = TaskScope(owner)
            if owner != "AJ_2":
                _scoped(scope, lambda: asyncio.ensure_future(asyncio.sleep(0)))
            elif how == "task":
                _scoped(scope, lambda: asyncio.ensure_future(hold()))
            else:
                _scoped(scope, lambda: loop.call_soon(hold_the_loop))

    thread.call(start(), 5)
    seen.clear()
    told.clear()
    thread.call(block(), 30)
    assert freed.wait(30)
    thread.loop.call_soon_threadsafe(probe.stop)
    watch.stop()
    thread.stop()
    mine = next(block for block in told if block.owner == "AJ_2")
    assert mine.seconds >= LIMITS.report_s
    assert "in hold_the_loop: assert seen.wait(20)" in mine.where
    assert mine.where in mine.stack
    if how == "task":
        assert "in hold: hold_the_loop()" in mine.stack[0]
    assert max(lengths) >= LIMITS.report_s


def test_who_left_the_loop_is_found():
    escaped: list[str] = []

    def on_escape(error: BaseException) -> None:
        scope = scope_of_traceback(error.__traceback__)
        escaped.append(f"{scope.owner if scope else None} {error!r}")

    async def leave() -> None:
        raise SystemExit(3)

    async def start() -> None:
        install_task_factory(asyncio.get_running_loop())
        _scoped(TaskScope("AJ_9"), lambda: asyncio.ensure_future(leave()).add_done_callback(_seen))

    async def after() -> str:
        return "the loop goes on"

    def _seen(task: asyncio.Future[None]) -> None:
        assert isinstance(task.exception(), SystemExit)

    thread = LoopThread("jobs", on_escape)
    thread.call(start(), 5)
    assert thread.call(after(), 5) == "the loop goes on"
    thread.loop.call_soon_threadsafe(thread.loop.stop)
    assert thread.call(after(), 5) == "the loop goes on"
    thread.stop()
    assert escaped == ["AJ_9 SystemExit(3)"]
    assert not thread._thread.is_alive()


def test_stacks_are_few_when_a_loop_blocks_all_the_time():
    watch = LoopWatch(LIMITS, on_blocked=lambda _: None, on_freed=lambda _: None)
    assert sum(watch._may_tell_stack() for _ in range(100)) == 20
    assert time.monotonic() - watch._stacks[0] < 60
