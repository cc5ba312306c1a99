import re
import subprocess
import sys

import click
import pytest

from voxray.base.errors import ActorStartError, ConfigError
from voxray.cli import main as module
from voxray.cli.main import run


@pytest.fixture
def command(monkeypatch):
    """Make `voxray test` do what a test says."""

    def install(function):
        monkeypatch.setattr(
            module._Group, "get_command", lambda *_: click.command("test")(function)
        )

    return install


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError("no\nsuch thing"), 2), (ActorStartError("no such thing"), 1)]
)
def test_our_errors_are_one_line_and_an_exit_code(command, capsys, error, status):
    def fail():
        raise error

    command(fail)
    assert run(["test"]) == status
    assert capsys.readouterr() == ("", "voxray: error: no such thing\n")


def test_success_and_chosen_exit_codes(command):
    command(lambda: None)
    assert run(["test"]) == 0
    command(lambda: click.get_current_context().exit(3))
    assert run(["test"]) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, click.Abort])
def test_an_interrupt_is_130(command, error):
    def interrupt():
        raise error

    command(interrupt)
    assert run(["test"]) == 130


def test_a_bug_is_not_hidden(command):
    def fail():
        raise ZeroDivisionError

    command(fail)
    with pytest.raises(ZeroDivisionError):
        run(["test"])


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["status", "extra"]])
def test_wrong_usage_is_2(arguments, capsys):
    assert run(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_every_command_that_is_listed_loads_and_explains_itself(capsys):
    assert run(["-h"]) == 0
    overview = capsys.readouterr().out
    for name in module.cli.list_commands(click.Context(module.cli)):
        assert f"  {name} " in overview
        assert run([name, "--help"]) == 0
        explained = capsys.readouterr().out
        assert "Usage: voxray " + name in explained
        # Not rewrapped: each line of an example can be copied.
        example = rf"^  Example:\n(    .*\n)*?    (.*\()?voxray {name}"
        assert re.search(example, explained, re.MULTILINE)


def test_a_command_whose_module_is_not_here_is_unknown(monkeypatch, capsys):
    later = module._Command(module="voxray.cli.not_written", attribute="x", summary="Later.")
    monkeypatch.setattr(module, "_COMMANDS", {**module._COMMANDS, "later": later})
    assert run(["-h"]) == 0
    assert "later" not in capsys.readouterr().out
    assert run(["later"]) == 2


def test_the_help_loads_neither_ray_nor_livekit():
    code = (
        "import sys\n"
        "from voxray.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'ray', 'livekit', 'aiohttp', 'pydantic', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_console_script_ends_quietly_when_its_reader_goes():
    code = (
        "import sys, click\n"
        "from voxray.cli import main\n"
        "def flood():\n"
        "    while True: click.echo('x' * 1000)\n"
        "main._Group.get_command = lambda *_: click.command('test')(flood)\n"
        "sys.argv = ['voxray', 'test']\n"
        "main.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(10) == 1


def test_the_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("voxray, version 0.")
