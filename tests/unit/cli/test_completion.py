"""Completion as a shell asks for it: the script is sourced in a real bash, and so is the answer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from voxray.cli.main import run
from voxray.cli.run_files import RunFile, write_run_file

# What bash does when somebody presses the tab key behind a line.
_ASK = """
source /dev/stdin <<'SCRIPT'
{script}
SCRIPT
COMP_WORDS=({words})
COMP_CWORD={index}
COMPREPLY=()
compopt() {{ :; }}
_voxray_completion voxray
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def complete(tmp_path, monkeypatch, capsys):
    """Return what bash offers behind a line."""
    monkeypatch.setenv("VOXRAY_HOME", str(tmp_path / "home"))
    binaries = tmp_path / "bin"
    binaries.mkdir()
    # As it is installed, whatever runs the tests.
    command = binaries / "voxray"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m voxray "$@"\n')
    command.chmod(0o755)
    assert run(["completion", "bash"]) == 0
    script = capsys.readouterr().out

    def ask(line: str, folder: Path = tmp_path) -> list[str]:
        words = ["voxray", *line.split(" ")]
        done = subprocess.run(
            [
                shutil.which("bash") or "bash",
                "--norc",
                "-c",
                _ASK.format(
                    script=script, words=" ".join(f"'{w}'" for w in words), index=len(words) - 1
                ),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"},
        )
        assert done.stderr == ""
        return done.stdout.split()

    return ask


def test_commands_and_their_options(complete):
    assert complete("st") == ["start", "status", "story"]
    offered = complete("drain --")
    assert {"--deadline", "--wait", "--json", "--app"} <= set(offered)
    assert complete("start --log-level W") == ["warn"]


def test_programs_and_the_folders_on_the_way(complete, tmp_path):
    (tmp_path / "agent.py").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "deep" / "deeper" / "other.py").touch()
    assert complete("start a") == ["agent.py"]
    assert complete("dev deep") == ["deep/deeper/other.py"]
    assert complete("console ./ag") == ["./agent.py"]
    assert complete("start nowhere/") == []


def test_the_apps_that_run(complete, tmp_path):
    home = {"VOXRAY_HOME": str(tmp_path / "home")}
    for app in ("front-desk", "sales"):
        # Nobody answers there: job ids can't be offered, and nothing is said about it.
        run_file = RunFile(app=app, api="http://127.0.0.1:9", pid=os.getpid(), token="t0ken")
        write_run_file(run_file, home)
    assert complete("status --app ") == ["front-desk", "sales"]
    assert complete("status --app s") == ["sales"]
    assert complete("story --app sales AJ_") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells(shell, capsys):
    assert run(["completion", shell]) == 0
    assert f"_VOXRAY_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_another_shell_is_refused(capsys):
    assert run(["completion", "tcsh"]) == 2
