"""Child processes that never outlive us, however we end."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Linux kills the child with this signal when the thread that started it ends, kill -9 included.
# It is set by a small program that becomes the child, not by `preexec_fn`: code between fork and
# exec can deadlock in a process with threads, and gRPC and Ray have many.
_WRAPPER = """\
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0) != 0:  # 1: PR_SET_PDEATHSIG
    sys.exit("prctl failed")
if os.getppid() != parent:  # it died before we could ask
    sys.exit(0)
os.execve(sys.argv[2], sys.argv[2:], os.environ)
"""


def start_child(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own that dies with the calling thread.

    Args:
        command: absolute path of the program, and its arguments.
        output: where its standard output and error go.
        environment: its environment; None hands on ours.
        folder: its working folder; None takes ours.

    Raises:
        OSError: Python itself could not be started (no memory, too many processes).
    """
    return subprocess.Popen(  # noqa: S603 - the commands are built by our own code
        [sys.executable, "-I", "-S", "-c", _WRAPPER, str(os.getpid()), *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )


def kill_child(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and everything in its session, and reap it. Idempotent."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # It ended by itself in between.
        except PermissionError:
            process.kill()
    process.wait()
