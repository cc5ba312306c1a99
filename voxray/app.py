"""Loads a user's program: an AgentServer, or `cli.run_app(...)` with whatever it is given."""

import ast
import contextlib
import importlib
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from livekit.agents import AgentServer

from voxray.actors.livekit_compat import capture_run_app, read_connection, read_hooks, read_info
from voxray.actors.program import LoadedProgram
from voxray.actors.program_version import program_version
from voxray.base.errors import ProgramError

logger = logging.getLogger(__name__)

__all__ = ["LoadedProgram", "load_program"]

# The names that livekit-agents looks at first (`livekit.agents.cli.discover`).
_PREFERRED_NAMES = ("app", "server", "agent")
_REMEDY = "define `server = AgentServer()` with an `@server.rtc_session()`, or call `cli.run_app`"


def load_program(path: Path) -> LoadedProgram:
    """Import a program and find its AgentServer.

    The module is imported once, under its own name, with its folder on `sys.path`. What stands
    under `if __name__ == "__main__":` is then run inside that module if there is no AgentServer
    in it; `cli.run_app` only tells us what it was given. So module-level code never runs twice.

    Call it on the main thread: plugins insist on registering there.

    Raises:
        ProgramError: names file and line, what is wrong and what to do.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a program must be loaded on the main thread")
    path = _check_path(path)
    given: list[AgentServer] = []
    # A program may look at its own command line; `start` is what a worker is run with.
    with capture_run_app(given), _arguments([str(path), "start"]):
        module = _import(path)
        server = _server_in(module)
        if server is None and not given:
            _run_main_part(module, path, given)
    server = server or (given[-1] if given else None) or _server_in(module)
    if server is None:
        raise ProgramError(f"{path}: holds no AgentServer; {_REMEDY}")
    hooks = read_hooks(server)
    if hooks is None:
        raise ProgramError(
            f"{path}: its AgentServer has no entrypoint; decorate one with `@server.rtc_session()`"
        )
    logger.debug("program loaded", extra={"program": str(path)})
    return LoadedProgram(
        server=server,
        hooks=hooks,
        info=read_info(server, str(path)).model_copy(update={"version": program_version(path)}),
        connection=read_connection(server),
    )


def _check_path(path: Path) -> Path:
    resolved = path.expanduser().resolve()
    if not resolved.exists():
        raise ProgramError(f"{path}: no such file; give the path of your program")
    if not resolved.is_file() or resolved.suffix != ".py":
        raise ProgramError(
            f"{path}: is not a Python file; give the file that holds the AgentServer"
        )
    if "." in resolved.stem:
        raise ProgramError(f"{path}: can't be imported under a name with a dot; rename the file")
    return resolved


def _module_name(path: Path) -> tuple[str, Path]:
    """Return the dotted name of a file and the folder that it is importable from."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def _import(path: Path) -> ModuleType:
    name, folder = _module_name(path)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    loaded = sys.modules.get(name)
    if loaded is not None and not _is_from(loaded, path):
        raise ProgramError(
            f"{path}: the name {name} is taken by {getattr(loaded, '__file__', None) or 'Python'}; "
            "give your file another name"
        )
    with _explained(path):
        return importlib.import_module(name)


def _is_from(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _server_in(module: ModuleType) -> AgentServer | None:
    values = vars(module)
    for name in (*_PREFERRED_NAMES, *sorted(values)):
        value = values.get(name)
        if isinstance(value, AgentServer):
            return value
    return None


def _run_main_part(module: ModuleType, path: Path, given: list[AgentServer]) -> None:
    """Run the module's `if __name__ == "__main__":` blocks in the module itself."""
    tree = ast.parse(path.read_bytes(), filename=str(path))
    blocks: list[ast.stmt] = [
        node for node in tree.body if isinstance(node, ast.If) and _asks_for_main(node.test)
    ]
    if not blocks:
        return
    code = compile(ast.Module(body=blocks, type_ignores=[]), str(path), "exec")
    own_name = module.__name__
    module.__name__ = "__main__"
    try:
        with _explained(path), _exit_allowed(given):
            exec(code, vars(module))  # noqa: S102 - the user's own program, as they would run it
    finally:
        module.__name__ = own_name


def _asks_for_main(test: ast.expr) -> bool:
    nodes = list(ast.walk(test))
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in nodes) and any(
        isinstance(node, ast.Constant) and node.value == "__main__" for node in nodes
    )


@contextlib.contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = arguments
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _exit_allowed(given: list[AgentServer]) -> Iterator[None]:
    """Let `sys.exit(cli.run_app(...))` pass: a stock worker has run by then."""
    try:
        yield
    except SystemExit:
        if not given:
            raise


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a program raises while it loads into a ProgramError with file and line."""
    try:
        yield
    except SystemExit as error:
        how = "without an error" if error.code in (None, 0) else f"with {error.code!r}"
        raise ProgramError(
            f"{_place(error, path)}: the program ended itself {how} as it was loaded; "
            "let it reach its end"
        ) from error
    except Exception as error:
        remedy = (
            "install it where voxray runs, or correct the name"
            if isinstance(error, ImportError)
            else "correct it and try again"
        )
        raise ProgramError(
            f"{_place(error, path)}: {type(error).__name__}: {_message(error)}; {remedy}"
        ) from error


def _message(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _place(error: BaseException, path: Path) -> str:
    """Return `file:line` of the last frame in the program's own folder, or the program."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(Path(frame.filename), path.parent)]
    if not own:
        # Refused before a line of it ran, e.g. bytes that are no text.
        return str(path)
    return f"{own[-1].filename}:{own[-1].lineno}"


def _is_own(file: Path, folder: Path) -> bool:
    # A virtual environment often lies in the program's folder.
    return folder in file.parents and "site-packages" not in file.parts
