"""Bounds one step of a host's start, and says where in the user's code it hung or raised."""

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import voxray
from voxray.base.errors import ProgramError

logger = logging.getLogger(__name__)

STUCK_S = 5.0
"""How long a step that was interrupted may take to unwind before its process is ended: code that
never comes back from C can't be interrupted, and `except BaseException` may swallow it."""
FRAMES_KEPT = 24
"""Frames in a report at most, the innermost: a recursion has thousands."""
_SIGNAL = signal.SIGUSR2
_OURS = str(Path(voxray.__file__).parent) + os.sep


class _HungError(BaseException):
    """Raised inside the step that hangs; no `except Exception` of a program may take it."""


def frames_of(error: BaseException) -> tuple[str, ...]:
    """Return where an error came from, outermost first, without voxray's own frames."""
    lines = list(_lines(traceback.extract_tb(error.__traceback__)))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and not isinstance(cause, _HungError):
        because = f"because of {type(cause).__name__}: {cause}"
        lines = [*lines, because, *_lines(traceback.extract_tb(cause.__traceback__))]
    return tuple(lines[-FRAMES_KEPT:])


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever a step of the program raises into a ProgramError with the user's frames.

    Raises:
        ProgramError: `what` raised; its `details` are the frames.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        raised = ProgramError(f"{what} raised {type(error).__name__}: {error}")
        raised.details = frames_of(error)
        raise raised from error


@contextmanager
def bounded(what: str, limit_s: float) -> Iterator[None]:
    """Interrupt a step that takes too long. On the main thread.

    Raises:
        ProgramError: the step did not end in time; its `details` say where it was.
    """
    main = threading.main_thread().ident or 0
    done = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not done.is_set():
            raise _HungError

    def watch() -> None:
        if done.wait(limit_s):
            return
        signal.pthread_kill(main, _SIGNAL)
        if not done.wait(STUCK_S):
            _give_up(what, limit_s, main)

    before = signal.signal(_SIGNAL, interrupt)
    threading.Thread(target=watch, name="start-watch", daemon=True).start()
    try:
        yield
    except _HungError as hung:
        done.set()
        late = ProgramError(f"{what} did not end within {limit_s:g} s")
        late.details = tuple(_lines(traceback.extract_tb(hung.__traceback__)))[-FRAMES_KEPT:]
        raise late from hung
    finally:
        done.set()
        signal.signal(_SIGNAL, before)


def _give_up(what: str, limit_s: float, thread_id: int) -> None:
    """End the process: nothing else stops code that can't be interrupted."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - the documented way to a stack
    where = tuple(_lines(traceback.extract_stack(frame)))[-FRAMES_KEPT:] if frame else ()
    logger.critical(
        "%s did not end within %g s and can't be interrupted; this process ends, at:\n  %s",
        what,
        limit_s,
        "\n  ".join(where),
    )
    logging.shutdown()
    os._exit(1)


def _lines(frames: Iterable[traceback.FrameSummary]) -> Iterator[str]:
    for frame in frames:
        if frame.filename.startswith((_OURS, "<frozen ")) or _is_ray(frame.filename):
            continue
        source = f": {frame.line}" if frame.line else ""
        yield f"{frame.filename}:{frame.lineno} in {frame.name}{source}"


def _is_ray(filename: str) -> bool:
    return f"{os.sep}ray{os.sep}_private{os.sep}" in filename or "_raylet" in filename
