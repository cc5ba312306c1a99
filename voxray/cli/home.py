"""Folders where voxray keeps what it builds and what it has to remember on this machine."""

from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "VOXRAY_HOME"
_FOLDER = ".voxray"


def user_home(environment: Mapping[str, str]) -> Path:
    """Return the folder for run files: `VOXRAY_HOME`, else `~/.voxray`."""
    if named := environment.get(_VARIABLE):
        return Path(named).expanduser().absolute()
    return Path.home() / _FOLDER


def build_home(environment: Mapping[str, str]) -> Path:
    """Return the folder for built programs.

    `VOXRAY_HOME`; else `.voxray` of the source tree that this package runs from, which git
    ignores; else, for an installed package, `~/.voxray`.
    """
    project = Path(__file__).absolute().parents[2]
    if not environment.get(_VARIABLE) and (project / "pyproject.toml").is_file():
        return project / _FOLDER
    return user_home(environment)
