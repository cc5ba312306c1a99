"""How much of a busy processor this process gets: its niceness, thread by thread.

A process that starts imports for a second or two. While calls run on the same machine it does so
behind them, and takes its full share once it serves. Linux lets a process back to where it was
only with the right to: without it, processes start at their full share, as elsewhere.
"""

import contextlib
import os
import sys
from pathlib import Path

START_NICENESS = 10
"""Niceness of a process that starts: against one that serves it gets about a tenth."""

_THREADS = Path("/proc/self/task")
_STATUS = Path("/proc/self/status")
_CAP_SYS_NICE = 23
# A soft limit of 20 lets a process go back to niceness 0 (`man 2 getrlimit`, RLIMIT_NICE).
_BACK_TO_NORMAL = 20


def may_come_back() -> bool:
    """Return whether a process of this user can go back from a higher niceness to 0."""
    if sys.platform != "linux":
        return False
    import resource  # noqa: PLC0415 - not there on every platform

    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return soft >= _BACK_TO_NORMAL or soft == resource.RLIM_INFINITY or _has_capability()


def come_back() -> None:
    """Give every thread of this process niceness 0, as far as that is allowed."""
    if sys.platform != "linux":
        return
    for thread in _THREADS.iterdir():
        # A thread may end meanwhile; without the right to it, things stay as they are.
        with contextlib.suppress(OSError):
            if os.getpriority(os.PRIO_PROCESS, int(thread.name)) > 0:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)


def _has_capability() -> bool:
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_SYS_NICE & 1)
    return False
