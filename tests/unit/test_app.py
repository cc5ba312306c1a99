"""Loading of programs: what is found, what is run, and what is said about a bad one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from livekit.agents import cli

from voxray.app import load_program
from voxray.base.errors import ProgramError

SERVER = """
from livekit.agents import AgentServer, JobContext
{name} = AgentServer()

@{name}.rtc_session(agent_name="{agent}")
async def entrypoint(ctx: JobContext) -> None: ...
"""
WORKER = """
from livekit.agents import JobContext, WorkerOptions, cli
runs = []
runs.append(__name__)

async def entrypoint(ctx: JobContext) -> None: ...

def prewarm(proc) -> None: ...
"""

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("prog"):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a program and return its path."""

    def write(text: str, name: str = "prog.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", ["app", "server", "agent", "some_other_name"])
def test_a_server_is_found_under_any_name(write: Write, name: str) -> None:
    program = load_program(write(SERVER.format(name=name, agent="survey")))
    assert program.info.agent_name == "survey"
    assert program.hooks.entrypoint is sys.modules["prog"].entrypoint


def test_preferred_names_come_first(write: Write) -> None:
    text = SERVER.format(name="aaa", agent="other") + SERVER.format(name="server", agent="wanted")
    assert load_program(write(text)).info.agent_name == "wanted"


def test_a_server_wins_over_the_main_part(write: Write) -> None:
    text = SERVER.format(name="server", agent="survey")
    load_program(write(f"{text}\nif __name__ == '__main__':\n    raise AssertionError\n"))


@pytest.mark.parametrize(
    "main",
    [
        "if __name__ == '__main__':\n    cli.run_app(OPTIONS)",
        "if '__main__' == __name__:\n    import sys\n    sys.exit(cli.run_app(OPTIONS))",
        "def main():\n    cli.run_app(OPTIONS)\nif __name__ == '__main__':\n    main()",
        "from livekit.agents.cli import run_app\nrun_app(OPTIONS)",
        "cli.run_app(OPTIONS)",
    ],
)
def test_worker_options_are_found_and_the_module_runs_once(write: Write, main: str) -> None:
    options = "WorkerOptions(entrypoint_fnc=entrypoint, prewarm_fnc=prewarm, agent_name='old')"
    path = write(f"{WORKER}\n{main.replace('OPTIONS', options)}\n")
    program = load_program(path)
    module = sys.modules["prog"]
    assert module.runs == ["prog"]
    assert module.__name__ == "prog"
    assert program.info.agent_name == "old"
    assert program.hooks.entrypoint is module.entrypoint
    assert program.hooks.setup_fnc is module.prewarm


def test_a_server_given_to_run_app_is_found(write: Write) -> None:
    text = SERVER.format(name="server", agent="hidden").replace("\n", "\n    ")
    path = write(
        "from livekit.agents import cli\n"
        f"def make():\n    {text}\n    return server\n"
        "if __name__ == '__main__':\n    cli.run_app(make())\n"
    )
    assert load_program(path).info.agent_name == "hidden"


def test_the_real_run_app_is_back_afterwards(write: Write) -> None:
    before = cli.run_app
    load_program(write(SERVER.format(name="server", agent="")))
    assert cli.run_app is before


def test_the_program_sees_the_arguments_of_a_worker(write: Write) -> None:
    path = write(
        "import sys\narguments = list(sys.argv)\n" + SERVER.format(name="server", agent="")
    )
    before = list(sys.argv)
    load_program(path)
    assert sys.modules["prog"].arguments == [str(path), "start"]
    assert sys.argv == before


def test_a_program_imports_its_neighbours_and_its_package(write: Write) -> None:
    write("", "prog_package/__init__.py")
    write("NAME = 'from the package'\n", "prog_package/names.py")
    text = SERVER.format(name="server", agent="x").replace('"x"', "NAME")
    program = load_program(write(f"from .names import NAME\n{text}", "prog_package/main.py"))
    assert program.info.agent_name == "from the package"
    assert "prog_package.main" in sys.modules


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("import nothing_of_that_name\n", "prog.py:1", "nothing_of_that_name.*install it"),
        ("x = 1\ny = x / 0\n", "prog.py:2", "ZeroDivisionError"),
        ("def broken(:\n", "prog.py:1", "SyntaxError"),
        ("import json\n\njson.loads('{')\n", "prog.py:3", "JSONDecodeError"),
        ("import sys\nsys.exit(3)\n", "prog.py:2", "ended itself with 3"),
        ("x = 1\n", "prog.py", "holds no AgentServer; define"),
        ("if __name__ == '__main__':\n    1 / 0\n", "prog.py:2", "ZeroDivisionError"),
        ("from livekit.agents import AgentServer\ns = AgentServer()\n", "prog.py", "no entrypoint"),
    ],
)
def test_a_bad_program_is_told_with_its_place(
    write: Write, text: str, place: str, told: str
) -> None:
    path = write(text)
    with pytest.raises(ProgramError, match=told) as raised:
        load_program(path)
    assert f"{path.parent / place}: " in str(raised.value)
    assert raised.value.exit_code == 2


def test_an_error_deep_in_a_library_is_told_with_the_line_of_the_program(write: Write) -> None:
    write("def fail():\n    raise OSError('disk')\n", ".venv/site-packages/prog_library.py")
    library = write("", "prog_helper.py").parent / ".venv" / "site-packages"
    sys.path.insert(0, str(library))
    path = write("import prog_library\n\nprog_library.fail()\n")
    with pytest.raises(ProgramError, match=r"prog\.py:3: OSError: disk"):
        load_program(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing.py", "no such file"),
        ("", "not a Python file"),
        ("notes.txt", "not a Python file"),
        ("prog.v2.py", "a dot"),
        ("logging.py", "the name logging is taken by"),
    ],
)
def test_a_path_that_is_no_program(write: Write, name: str, told: str) -> None:
    for existing in ("notes.txt", "prog.v2.py", "logging.py"):
        folder = write("", existing).parent
    with pytest.raises(ProgramError, match=told):
        load_program(folder / name)


def test_what_the_environment_and_the_program_give_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key-of-the-environment")
    monkeypatch.delenv("LIVEKIT_API_SECRET", raising=False)
    text = SERVER.format(name="server", agent="")
    path = write("import os\nos.environ['LIVEKIT_API_SECRET'] = 'from .env'\n" + text)
    monkeypatch.setenv("LIVEKIT_URL", "ws://there:7880")
    connection = load_program(path).connection
    assert (connection.url, connection.api_key) == ("ws://there:7880", "key-of-the-environment")
    assert connection.api_secret == "from .env"
    assert "from .env" not in repr(connection)
