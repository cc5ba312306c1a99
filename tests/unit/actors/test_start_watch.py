"""A start that hangs is interrupted where it hangs; one that raises says where."""

import signal
import subprocess
import sys
import threading

import pytest

from voxray.actors import start_watch
from voxray.actors.start_watch import bounded, explained, frames_of
from voxray.base.errors import ProgramError

# Waits in C for ever, as a program's model loader might: no signal gets it back to Python.
UNINTERRUPTIBLE = """
import logging, sys
logging.basicConfig(level="INFO", stream=sys.stderr)
from voxray.actors import start_watch
start_watch.STUCK_S = 0.2
def load_model():
    while True:
        try:
            import threading
            threading.Event().wait()
        except BaseException:
            pass
with start_watch.bounded("agent.py: its setup_fnc", 0.1):
    load_model()
"""


def waits_for_ever():
    threading.Event().wait()


def test_what_hangs_is_interrupted_and_says_where():
    before = signal.getsignal(signal.SIGUSR2)
    late = pytest.raises(ProgramError, match=r"setup_fnc did not end within 0\.05 s")
    with late as caught, bounded("its setup_fnc", 0.05):
        waits_for_ever()
    assert any(
        "in waits_for_ever: threading.Event().wait()" in line for line in caught.value.details
    )
    assert not any("/start_watch.py" in line for line in caught.value.details)
    assert signal.getsignal(signal.SIGUSR2) is before


def test_a_program_that_catches_every_exception_is_interrupted_too():
    def stubborn():
        try:
            waits_for_ever()
        except Exception:
            pytest.fail("the interrupt was taken for an error of the program")

    with pytest.raises(ProgramError, match="did not end"), bounded("x", 0.05), explained("x"):
        stubborn()


def test_what_can_not_be_interrupted_ends_its_process_and_says_where():
    done = subprocess.run(
        [sys.executable, "-c", UNINTERRUPTIBLE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "its setup_fnc did not end within 0.1 s and can't be interrupted" in done.stderr
    assert "in load_model" in done.stderr


def test_what_ends_in_time_is_left_alone():
    with bounded("x", 60.0):
        value = 1
    assert value == 1
    assert not start_watch._HungError.__subclasses__()


def fails():
    raise RuntimeError("no model file")


def gives_up():
    try:
        fails()
    except RuntimeError as error:
        raise ValueError("can't begin") from error


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), KeyError("x")])
def test_whatever_a_step_raises_is_the_program_s_error(error):
    said = f"its setup_fnc raised {type(error).__name__}"
    with pytest.raises(ProgramError, match=said), explained("its setup_fnc"):
        raise error


def test_an_error_says_where_it_came_from_and_why():
    with pytest.raises(ProgramError) as caught, explained("its setup_fnc"):
        gives_up()
    details = caught.value.details
    assert "test_start_watch.py" in details[0]
    assert "because of RuntimeError: no model file" in details
    assert 'in fails: raise RuntimeError("no model file")' in details[-1]


def test_a_recursion_is_cut():
    def again():
        again()

    with pytest.raises(ProgramError) as caught, explained("x"):
        again()
    assert len(caught.value.details) == start_watch.FRAMES_KEPT
    assert len(frames_of(caught.value.__cause__)) == start_watch.FRAMES_KEPT
