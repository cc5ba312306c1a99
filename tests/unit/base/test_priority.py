"""Niceness, tried in processes of their own: what is lowered here would stay so for other tests."""

import subprocess
import sys

import pytest

from voxray.base.priority import START_NICENESS, may_come_back

_TRIAL = """
import os, threading
from voxray.base.priority import START_NICENESS, come_back

before = os.getpriority(os.PRIO_PROCESS, 0)
os.setpriority(os.PRIO_PROCESS, 0, START_NICENESS)
started, done = threading.Event(), threading.Event()
names = []

def wait():
    names.append(threading.get_native_id())
    started.set()
    done.wait()

thread = threading.Thread(target=wait)
thread.start()
started.wait()
lowered = os.getpriority(os.PRIO_PROCESS, names[0])
come_back()
print(before, lowered, *(os.getpriority(os.PRIO_PROCESS, each) for each in (0, names[0])))
done.set()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="niceness by thread is Linux's")


def _run_trial() -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _TRIAL], capture_output=True, text=True, timeout=60, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_every_thread_comes_back_where_that_is_allowed() -> None:
    before, lowered, main, other = _run_trial()
    assert lowered == START_NICENESS
    if may_come_back():
        assert (main, other) == (0, 0)
    else:
        assert before == 0
        assert (main, other) == (START_NICENESS, START_NICENESS)
