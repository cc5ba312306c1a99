"""Installs OpenRTC into an environment of its own, beside the same versions of everything else."""

import subprocess
import sys
from pathlib import Path

from benchmarks.systems import ROOT
from voxray.base.errors import MissingPartError

OPENRTC_VERSION = "0.20.1"
_ENVIRONMENT = ROOT / ".voxray" / f"openrtc-{OPENRTC_VERSION}"
_INSTALL_DEADLINE_S = 600


def install_openrtc() -> Path:
    """Return the Python that runs OpenRTC, installed from the package index when it is missing.

    Raises:
        MissingPartError: it can't be installed; says what the installer said last.
    """
    python = _ENVIRONMENT / "bin" / "python"
    done = _ENVIRONMENT / "done"
    if done.exists():
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    _run(uv, "venv", "--clear", "--python", sys.executable, str(_ENVIRONMENT))
    constraints = _ENVIRONMENT / "constraints.txt"
    constraints.write_text(_pins((ROOT / "requirements.lock").read_text()))
    wanted = (f"openrtc[livekit]=={OPENRTC_VERSION}", "-e", str(ROOT))
    _run(uv, "pip", "install", "--python", str(python), "-c", str(constraints), *wanted)
    done.touch()
    return python


def _pins(lock: str) -> str:
    """Return the versions of a lock file without its hashes: OpenRTC's own parts have none."""
    lines = (line.split(" \\")[0].rstrip() for line in lock.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith((" ", "#", "--")))


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_INSTALL_DEADLINE_S, check=False
    )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise MissingPartError(f"could not install OpenRTC for the comparison: {last}")
