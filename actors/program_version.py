"""The version of a user's program: a digest of the sources that it was loaded from."""

import hashlib
import sys
from pathlib import Path

_LENGTH = 16
"""Hex digits of a version: enough that two versions of one program never share theirs."""


def program_version(path: Path) -> str:
    """Return the version of a program that was just imported.

    It covers the program's file and every imported module that lies in its folder tree, by its
    place in there and its content; what is installed (`site-packages`, virtual environments) is
    left out, so that the same sources have the same version wherever they lie.

    Args:
        path: the program's file, resolved.
    """
    folder = path.parent
    files = {path, *(file for file in _module_files() if folder in file.parents)}
    digest = hashlib.sha256()
    for file in sorted(files):
        if not _is_installed(file, folder) and file.is_file():
            digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:_LENGTH]


def _module_files() -> set[Path]:
    names = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    return {Path(name).resolve() for name in names if isinstance(name, str)}


def _is_installed(file: Path, folder: Path) -> bool:
    inner = [parent for parent in file.parents if folder in parent.parents]
    return "site-packages" in file.parts or any(
        (parent / "pyvenv.cfg").is_file() for parent in inner
    )
