"""Bad input at `voxray start`: one clear line, the right exit code, nothing left running."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.running_app import ROOT, TIMETABLE, environment_for, free_port
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(150)


def start(
    home: Path, program: Path, *arguments: str, environment: Mapping[str, str]
) -> tuple[int, list[str]]:
    """Run `voxray start` to its end; return the exit code and the error lines."""
    done = run_start(home, program, *arguments, environment=environment)
    errors = [line for line in done.stderr.splitlines() if line.startswith("voxray: error:")]
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, errors


def run_start(
    home: Path, program: Path, *arguments: str, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "voxray", "start", str(program), *arguments],
        env=dict(environment),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_nothing_set(tmp_path: Path) -> None:
    code, errors = start(tmp_path, TIMETABLE, environment=environment_for(None, tmp_path))
    assert code == 2
    (line,) = errors
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        assert name in line


def test_an_address_that_is_none(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    code, errors = start(
        tmp_path,
        TIMETABLE,
        "--url",
        "localhost:7880",
        environment=environment_for(livekit_server, tmp_path),
    )
    assert code == 2
    assert "livekit.url" in errors[0]
    assert "ws://" in errors[0]


def test_a_wrong_secret(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    wrong = "x" * 40
    code, errors = start(
        tmp_path,
        TIMETABLE,
        "--http-port",
        str(free_port()),
        environment={
            **environment_for(livekit_server, tmp_path),
            "LIVEKIT_API_SECRET": wrong,
        },
    )
    assert code == 2
    assert "LIVEKIT_API_SECRET" in errors[0]
    assert wrong not in "".join(errors)


def test_nobody_at_the_address(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    port = free_port()
    code, errors = start(
        tmp_path,
        TIMETABLE,
        "--http-port",
        str(free_port()),
        environment={
            **environment_for(livekit_server, tmp_path),
            "LIVEKIT_URL": f"ws://127.0.0.1:{port}",
            "VOXRAY_LIVEKIT__MAX_RETRY": "1",
        },
    )
    assert code == 1
    assert f"127.0.0.1:{port}" in errors[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
        ("answer = 42\n", "AgentServer"),
        ("def broken(:\n", "program.py:1"),
        ("raise ValueError('not today')\n", "not today"),
    ],
)
def test_a_program_that_is_none(
    tmp_path: Path, livekit_server: LiveKitServer, source: str, said: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(source)
    code, errors = start(tmp_path, program, environment=environment_for(livekit_server, tmp_path))
    assert code == 2
    assert said in errors[0]
    assert "program.py" in errors[0]


def test_a_missing_program(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    code, errors = start(
        tmp_path, tmp_path / "nothing.py", environment=environment_for(livekit_server, tmp_path)
    )
    assert code == 2
    assert "nothing.py" in errors[0]


def test_a_taken_port(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, errors = start(
            tmp_path,
            TIMETABLE,
            "--http-port",
            str(port),
            environment=environment_for(livekit_server, tmp_path),
        )
    assert code == 2
    assert str(port) in errors[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hosts: [", "voxray.yaml:1"),
        ("hosts:\n  sessions: 3\n", "hosts.sessions: unknown setting"),
        ("hosts:\n  cpus: none\n", "hosts.cpus"),
        ("just words", "mapping"),
        ("inference:\n  groups:\n  - {name: a, engines: [nothing-known]}\n", "nothing-known"),
    ],
)
def test_a_broken_settings_file(
    tmp_path: Path, livekit_server: LiveKitServer, content: str, said: str
) -> None:
    (tmp_path / "voxray.yaml").write_text(content)
    code, errors = start(
        tmp_path,
        TIMETABLE,
        "--http-port",
        str(free_port()),
        environment=environment_for(livekit_server, tmp_path),
    )
    assert code == 2
    assert said in errors[0]


def test_a_setup_function_that_raises(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from livekit.agents import AgentServer\n"
        "def setup(proc): raise RuntimeError('no model file')\n"
        "server = AgentServer(setup_fnc=setup)\n"
        "@server.rtc_session()\n"
        "async def entrypoint(ctx): ...\n"
    )
    code, errors = start(
        tmp_path,
        program,
        "--http-port",
        str(free_port()),
        environment=environment_for(livekit_server, tmp_path),
    )
    assert code == 1
    assert "no model file" in errors[0]


def test_a_setup_function_that_hangs(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import threading\n"
        "from livekit.agents import AgentServer\n"
        "def load_model(): threading.Event().wait()\n"
        "def setup(proc): load_model()\n"
        "server = AgentServer(setup_fnc=setup, initialize_process_timeout=1.0)\n"
        "@server.rtc_session()\n"
        "async def entrypoint(ctx): ...\n"
    )
    done = run_start(
        tmp_path,
        program,
        "--http-port",
        str(free_port()),
        environment=environment_for(livekit_server, tmp_path),
    )
    assert done.returncode == 1
    assert f"{program}: its setup_fnc did not end within 1 s" in done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    frame = f"{program}:3 in load_model: def load_model(): threading.Event().wait()"
    assert lines.count(frame) == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def test_the_repository_root_is_no_program(tmp_path: Path, livekit_server: LiveKitServer) -> None:
    code, errors = start(tmp_path, ROOT, environment=environment_for(livekit_server, tmp_path))
    assert code == 2
    assert errors
