"""Keeps a process that is measured on a core of its own."""

import os


def pin(core: int) -> None:
    """Keep this process, and the threads that it makes from now on, on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})
