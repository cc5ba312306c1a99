"""The memory limits of a job that has its process for itself, with a stock worker's meaning."""

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import psutil

logger = logging.getLogger(__name__)

# As in livekit-agents (`ipc/supervised_proc.py`): no second warning within the first, unless usage
# grew by the second.
_WARN_PAUSE_S = 120.0
_WARN_GROWTH_MB = 50.0
# Stock samples every 5 s, all pages each time. Resident memory costs next to nothing to read and
# is never less, so that it is looked at more often and the pages only when it is over a limit.
INTERVAL_S = 1.0
_MB = 1024 * 1024


class MemoryVerdict(StrEnum):
    """What a sample means."""

    FINE = "fine"
    WARN = "warn"
    OVER = "over"


class MemoryJudge:
    """Judges samples. Pure. Limits are in MB; 0 is none."""

    def __init__(self, warn_mb: float, limit_mb: float) -> None:
        self.warn_mb = warn_mb
        self.limit_mb = limit_mb
        self._warned_at = -_WARN_PAUSE_S
        self._warned_mb = 0.0

    @property
    def lowest_mb(self) -> float | None:
        """Return the usage below which nothing is judged; None when nothing ever is."""
        return min((each for each in (self.warn_mb, self.limit_mb) if each > 0), default=None)

    def judge(self, used_mb: float, now: float) -> MemoryVerdict:
        """Judge one sample at `now` (monotonic seconds)."""
        if 0 < self.limit_mb < used_mb:
            return MemoryVerdict.OVER
        if not 0 < self.warn_mb < used_mb:
            return MemoryVerdict.FINE
        grown = used_mb - self._warned_mb >= _WARN_GROWTH_MB
        if now - self._warned_at < _WARN_PAUSE_S and not grown:
            return MemoryVerdict.FINE
        self._warned_at, self._warned_mb = now, used_mb
        return MemoryVerdict.WARN


def used_mb() -> float:
    """Return this process's share of memory, shared pages divided among those who share them."""
    process = psutil.Process()
    full: Any
    try:
        full = process.memory_full_info()
    except (psutil.AccessDenied, NotImplementedError):
        full = process.memory_info()
    return next(
        (value / _MB for name in ("pss", "uss", "rss") if (value := getattr(full, name, 0))), 0.0
    )


class MemoryGuard:
    """A thread that samples this process. A blocked event loop does not stop it."""

    def __init__(
        self,
        judge: MemoryJudge,
        on_over: Callable[[float], None],
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Prepare.

        Args:
            judge: the limits.
            on_over: told once, in MB, on the guard's thread.
            interval_s: pause between samples.
        """
        self._judge = judge
        self._on_over = on_over
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="memory-guard", daemon=True)

    def start(self) -> None:
        """Begin, if there is a limit."""
        if self._judge.lowest_mb is not None:
            self._thread.start()

    def stop(self) -> None:
        """End. Idempotent and safe before start."""
        self._over.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)

    def _guard(self) -> None:
        process, judge = psutil.Process(), self._judge
        lowest = judge.lowest_mb or 0.0
        while not self._over.wait(self._interval_s):
            if process.memory_info().rss <= lowest * _MB:
                continue
            used = used_mb()
            verdict = judge.judge(used, time.monotonic())
            fields = {
                "memory_usage_mb": round(used, 1),
                "memory_warn_mb": judge.warn_mb,
                "memory_limit_mb": judge.limit_mb,
            }
            if verdict is MemoryVerdict.WARN:
                logger.warning("the job's process uses much memory", extra=fields)
            elif verdict is MemoryVerdict.OVER:
                logger.error("the job's process is over its memory limit", extra=fields)
                self._on_over(used)
                return
