"""Sees that something blocks an event loop while it does, and finds out which job it is.

A timer on the loop says when the loop ran last; a thread compares, and looks into the loop's
thread: at its stack, and at the context of the callback that it is in.
"""

import asyncio
import linecache
import logging
import math
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from voxray.actors.task_scope import TaskScope, scope_of

logger = logging.getLogger(__name__)

# Switches of livekit-agents' own monitor (`telemetry/loop_monitor.py`), with its default of the
# second one; the first defaults to `hosts.block_report_s` here.
WARN_MS = "LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS"
ERROR_MS = "LIVEKIT_AGENTS_LOOP_BLOCK_ERROR_MS"
_ERROR_S = 0.5
# Looks within one threshold, and how often a loop is looked at, seldom and often.
_LOOKS = 5
_INTERVALS_S = (0.02, 0.1)
_FRAMES = 20
# Stacks in a minute; a job that blocks all the time says the same again and again.
_STACKS_A_MINUTE = 20
# Where code is that is not the program's: Python's, installed packages', and ours.
_LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
)


@dataclass(frozen=True, kw_only=True)
class BlockThresholds:
    """From how many seconds on a block is reported, and logged as an error."""

    report_s: float
    error_s: float

    @property
    def interval_s(self) -> float:
        """How often to look."""
        shortest, longest = _INTERVALS_S
        return min(longest, max(shortest, self.report_s / _LOOKS))


def thresholds(report_s: float, environment: Mapping[str, str]) -> BlockThresholds | None:
    """Return the thresholds, or None when nothing is to be reported.

    Args:
        report_s: `hosts.block_report_s`; 0 reports nothing.
        environment: where livekit-agents' variables count more.
    """
    report = _seconds(environment, WARN_MS, report_s)
    if report <= 0:
        return None
    return BlockThresholds(
        report_s=report, error_s=max(report, _seconds(environment, ERROR_MS, _ERROR_S))
    )


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not math.isfinite(milliseconds) or milliseconds < 0:
        logger.warning("%s=%r is no number of milliseconds, it is ignored", name, text)
        return default
    return milliseconds / 1000


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """The loop has not run for `seconds`."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Freed:
    """The loop runs again after `seconds`; `told`: whether it was seen as blocked before."""

    seconds: float
    told: bool


class BlockDetector:
    """Decides from what a thread beside the loop sees, one look after the other. Pure.

    A look that comes late itself says that the whole process stood still (no processor was
    free, the machine slept), unless the loop's thread used its processor meanwhile: native code
    that holds the interpreter lock stops this thread too.
    """

    def __init__(self, report_s: float, interval_s: float, now: float) -> None:
        self._report_s = report_s
        self._interval_s = interval_s
        self._looked_at = now
        self._cpu_s = 0.0
        self._ticks = 0
        self._excused_s = 0.0
        self._told = False

    def look(
        self, now: float, *, ticks: int, ticked_at: float, worst_late_s: float, cpu_s: float
    ) -> Blocked | Freed | None:
        """Take one look.

        Args:
            now: monotonic seconds.
            ticks: timers that the loop has run so far.
            ticked_at: when it ran the last one.
            worst_late_s: how late the latest of those since the last look was.
            cpu_s: processor time of the loop's thread so far.
        """
        late_s = now - self._looked_at - self._interval_s
        used_s = cpu_s - self._cpu_s
        self._looked_at, self._cpu_s = now, cpu_s
        if late_s > self._interval_s and used_s < late_s / 2:
            self._excused_s += late_s
        if ticks != self._ticks:
            self._ticks = ticks
            seconds = max(0.0, worst_late_s - self._excused_s)
            told, self._told = self._told, False
            self._excused_s = 0.0
            if told or seconds >= self._report_s:
                return Freed(seconds=seconds, told=told)
            return None
        seconds = now - ticked_at - self._interval_s - self._excused_s
        if self._told or seconds < self._report_s:
            return None
        self._told = True
        return Blocked(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of the loop.

    Attributes:
        owner: who holds the loop (`TaskScope.owner`); empty when it is none of the jobs.
        seconds: so far, or in all.
        where: the innermost line of the program's own code, or of any.
        stack: `file:line in function: source line`, the innermost call last; no values.
    """

    owner: str
    seconds: float
    where: str = ""
    stack: tuple[str, ...] = ()


class LoopWatch:
    """A thread that watches the loop which `start` is called on. `ticked` is called there too."""

    def __init__(
        self,
        limits: BlockThresholds,
        *,
        on_blocked: Callable[[Block], None],
        on_freed: Callable[[Block], None],
    ) -> None:
        """Prepare.

        Args:
            limits: what is reported.
            on_blocked: told of a block while it lasts; on the watching thread.
            on_freed: told of its end; likewise.
        """
        self._limits = limits
        self._on_blocked = on_blocked
        self._on_freed = on_freed
        self._ticks = 0
        self._ticked_at = time.monotonic()
        self._worst_late_s = 0.0
        self._stacks: deque[float] = deque(maxlen=_STACKS_A_MINUTE)
        self._owner = ""
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        loop_thread = threading.get_ident()
        self._ticked_at = time.monotonic()
        self._thread = threading.Thread(
            target=self._watch, args=(loop_thread,), name="loop-watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End. Idempotent and safe before start."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            self._thread = None

    def ticked(self, late_s: float) -> None:
        """Note that the loop ran its timer, `late_s` seconds late."""
        self._worst_late_s = max(self._worst_late_s, late_s)
        self._ticked_at = time.monotonic()
        self._ticks += 1

    def _watch(self, loop_thread: int) -> None:
        limits = self._limits
        detector = BlockDetector(limits.report_s, limits.interval_s, time.monotonic())
        while not self._over.wait(limits.interval_s):
            ticks = self._ticks
            seen = detector.look(
                time.monotonic(),
                ticks=ticks,
                ticked_at=self._ticked_at,
                worst_late_s=self._worst_late_s,
                cpu_s=_cpu_s(loop_thread),
            )
            if ticks == self._ticks:
                self._worst_late_s = 0.0
            try:
                self._tell(seen, loop_thread)
            except Exception:
                logger.exception("a block of the event loop could not be reported")

    def _tell(self, seen: Blocked | Freed | None, loop_thread: int) -> None:
        if isinstance(seen, Blocked):
            frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 - its only way, as documented
            scope = scope_of_frame(frame)
            self._owner = scope.owner if scope is not None else ""
            block = Block(owner=self._owner, seconds=seen.seconds)
            if frame is not None and self._may_tell_stack():
                where, stack = stack_of(frame)
                block = Block(owner=self._owner, seconds=seen.seconds, where=where, stack=stack)
            self._on_blocked(block)
        elif isinstance(seen, Freed):
            owner, self._owner = self._owner, ""
            if not seen.told:
                # Native code held the interpreter lock all the time: nobody could look.
                owner = ""
                self._on_blocked(Block(owner="", seconds=seen.seconds))
            self._on_freed(Block(owner=owner, seconds=seen.seconds))

    def _may_tell_stack(self) -> bool:
        now = time.monotonic()
        if len(self._stacks) == _STACKS_A_MINUTE and now < self._stacks[0] + 60:
            return False
        self._stacks.append(now)
        return True


def scope_of_frame(frame: FrameType | None) -> TaskScope | None:
    """Return the scope of the callback that a frame of an event loop runs in.

    asyncio runs everything, the steps of tasks too, by handles that carry their context.
    """
    while frame is not None:
        if frame.f_code is asyncio.Handle._run.__code__:  # noqa: SLF001 - asyncio's own
            handle = frame.f_locals.get("self")
            return scope_of(getattr(handle, "_context", None))
        frame = frame.f_back
    return None


def scope_of_traceback(traceback: TracebackType | None) -> TaskScope | None:
    """Return the scope of the callback that an exception left the event loop from."""
    while traceback is not None:
        if (scope := scope_of_frame(traceback.tb_frame)) is not None:
            return scope
        traceback = traceback.tb_next
    return None


def stack_of(frame: FrameType | None) -> tuple[str, tuple[str, ...]]:
    """Return the program's innermost line, and the stack from the loop's callback inwards."""
    lines: list[str] = []
    where = ""
    while frame is not None and len(lines) < _FRAMES:
        code = frame.f_code
        if code is asyncio.Handle._run.__code__:  # noqa: SLF001 - asyncio's own
            break
        source = linecache.getline(code.co_filename, frame.f_lineno).strip()
        lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}: {source}")
        if not where and not code.co_filename.startswith(("<", *_LIBRARIES)):
            where = lines[-1]
        frame = frame.f_back
    return where or (lines[0] if lines else ""), tuple(reversed(lines))


def _cpu_s(thread: int) -> float:
    """Return the processor time of a thread; 0 where the system does not tell (macOS)."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    return time.clock_gettime(clock_of(thread)) if clock_of is not None else 0.0
