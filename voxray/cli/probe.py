"""Reads what the dispatcher has to know of a program, in a process of its own.

The program is imported where nothing else runs: whatever it does on import can't disturb the
command line, and a wrong program is known before any actor starts.
"""

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from voxray.actors.contracts import ProgramInfo
from voxray.base.errors import ProgramError, VoxrayError

_DEADLINE_S = 120.0
# The answer comes on a pipe of its own: programs print to standard output as they like.
_ANSWER_FD_VARIABLE = "_VOXRAY_PROBE_FD"


@dataclass(frozen=True, kw_only=True)
class ProbedProgram:
    """What a program says of itself.

    Attributes:
        info: what the dispatcher has to know.
        url, api_key, api_secret: address and keys that it gave its server, or loaded from a
            `.env` file; empty for those it has none of.
        sources: the files that it imported, without what is installed.
    """

    info: ProgramInfo
    url: str
    api_key: str
    api_secret: str = field(repr=False)
    sources: frozenset[Path] = frozenset()


async def probe_program(path: Path, environment: Mapping[str, str]) -> ProbedProgram:
    """Load a program in a child process and return what it says of itself.

    Raises:
        ProgramError: the program is missing, raises on import, or holds no AgentServer.
    """
    if not path.is_file():
        raise ProgramError(f"{path}: there is no such program; give the path of its Python file")
    child, reader = _start(path, environment)
    try:
        answer = await asyncio.wait_for(asyncio.to_thread(_read_all, reader), _DEADLINE_S)
    except TimeoutError as error:
        raise ProgramError(
            f"{path}: its import did not end within {_DEADLINE_S:g} s; "
            "move long work into setup_fnc or the entrypoint"
        ) from error
    finally:
        if sys.exc_info()[0] is not None:
            child.kill()
        # Its answer was its last act.
        child.wait()
    return _parse(answer, path, child.returncode)


def _start(path: Path, environment: Mapping[str, str]) -> tuple["subprocess.Popen[bytes]", int]:
    """Start the child; return it and the end of the pipe that its answer comes from.

    Not through asyncio: Ray, which starts beside it, waits for children that are not its own.
    """
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(  # noqa: S603 - the command is ours
            (sys.executable, "-m", "voxray.cli.probe", str(path.resolve())),
            env={**environment, _ANSWER_FD_VARIABLE: str(writer)},
            pass_fds=(writer,),
            stdin=subprocess.DEVNULL,
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return child, reader


def _read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as pipe:
        return pipe.read()


def _parse(answer: bytes, path: Path, exit_code: int | None) -> ProbedProgram:
    if not answer:
        raise ProgramError(
            f"{path}: the program ended its process (exit code {exit_code}) while it was imported; "
            "guard the code that runs it with `if __name__ == '__main__':`"
        )
    message = json.loads(answer)
    if "error" in message:
        raise ProgramError(message["error"])
    return ProbedProgram(
        info=ProgramInfo.model_validate_json(message["info"]),
        url=message["url"],
        api_key=message["api_key"],
        api_secret=message["api_secret"],
        sources=frozenset(map(Path, message["sources"])),
    )


def _own_sources() -> set[Path]:
    """Return the Python files that were imported from folders that somebody edits."""
    installed = {Path(each).resolve() for each in sysconfig.get_paths().values()}
    # We ourselves are no part of the program, wherever and under whatever name we run.
    found = {
        Path(file).resolve()
        for name, module in tuple(sys.modules.items())
        if isinstance(file := getattr(module, "__file__", None), str)
        and name.partition(".")[0] != "voxray"
    } - {Path(__file__).resolve()}
    return {
        path
        for path in found
        if path.suffix == ".py" and not any(folder in path.parents for folder in installed)
    }


def main() -> None:
    """Answer the parent: the program's info, or the error that says what is wrong with it."""
    from voxray.app import load_program  # noqa: PLC0415 - the parent must stay light

    with os.fdopen(int(os.environ.pop(_ANSWER_FD_VARIABLE)), "w") as pipe:
        try:
            program = load_program(Path(sys.argv[1]))
            json.dump(
                {
                    "info": program.info.model_dump_json(),
                    "sources": sorted(map(str, _own_sources())),
                    **asdict(program.connection),
                },
                pipe,
            )
        except VoxrayError as error:
            json.dump({"error": str(error)}, pipe)
    # Threads of the program's libraries must not hold up the answer.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
