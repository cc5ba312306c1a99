"""Checks how a fresh machine is set up: finding a Python, knowing when nothing is to be done."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FIND_PYTHON = PROJECT / "scripts" / "find_python.sh"


def put(folder, name, version, *, venv=True):
    """Put a program that poses as a Python of some version."""
    script = (
        "#!/bin/sh\n"
        'case "$2" in\n'
        f"  *version_info*) exec {sys.executable} -c "
        f'"import sys; sys.version_info = {version}; $2" ;;\n'
        f"  *) exit {0 if venv else 1} ;;\n"
        "esac\n"
    )
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return str(path)


def find(folder, **environment):
    return subprocess.run(
        ["/bin/sh", str(FIND_PYTHON)],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3": (3, 12, 1)}, "python3"),
        ({"python3": (3, 10, 1), "python3.11": (3, 11, 2)}, "python3.11"),
        ({"python3": (3, 14, 0), "python3.12": (3, 12, 0), "python3.13": (3, 13, 0)}, "python3.13"),
        ({"python": (3, 11, 0)}, "python"),
    ],
)
def test_takes_a_python_that_fits(tmp_path, pythons, chosen):
    for name, version in pythons.items():
        put(tmp_path, name, version)
    done = find(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / chosen}\n", "")


def test_the_named_one_is_the_only_one_tried(tmp_path):
    put(tmp_path, "python3", (3, 12, 1))
    old = put(tmp_path, "old", (3, 9, 1))
    done = find(tmp_path, PYTHON=old)
    assert done.returncode == 2
    assert done.stderr == (
        f"voxray: error: PYTHON={old} is not a Python from 3.11 to 3.13 that runs here\n"
    )


def test_a_complete_one_is_preferred_to_one_without_venv(tmp_path):
    put(tmp_path, "python3", (3, 12, 1), venv=False)
    put(tmp_path, "python3.11", (3, 11, 1))
    assert find(tmp_path).stdout == f"{tmp_path / 'python3.11'}\n"


def test_no_venv_module_is_one_line_with_the_remedy(tmp_path):
    put(tmp_path, "python3", (3, 12, 1), venv=False)
    done = find(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("voxray: error: python3 has no venv module: install it")
    assert done.stderr.count("\n") == 1


def test_no_python_is_one_line_with_the_remedy(tmp_path):
    done = find(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("voxray: error: found no Python from 3.11 to 3.13")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def setup_venv(tmp_path, monkeypatch):
    """The setup script, in a project of the test's own, with steps that only say their names."""
    spec = importlib.util.spec_from_file_location("setup_venv", PROJECT / "scripts/setup_venv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    for name in module._INPUTS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    monkeypatch.setattr(module, "_PROJECT", tmp_path)
    monkeypatch.setattr(module, "_VENV", venv)
    monkeypatch.setattr(module, "_PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(module, "_STAMP", venv / "voxray-setup")
    monkeypatch.setattr(module, "_LOCK_FILE", tmp_path / ".voxray" / "setup.lock")
    module.done = []

    def create():
        module.done.append("create")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch()

    monkeypatch.setattr(module, "_create_venv", create)
    for step in ("_install_uv", "_install_locked", "_install_voxray"):
        monkeypatch.setattr(module, step, lambda step=step: module.done.append(step))
    return module


EVERYTHING = ["create", "_install_uv", "_install_locked", "_install_voxray"]


def test_a_second_setup_has_nothing_to_do(setup_venv, capsys):
    assert setup_venv.main() == 0
    assert setup_venv.done == EVERYTHING
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "setup 1/4: creating .venv" in captured.err
    assert setup_venv.main() == 0
    assert setup_venv.done == EVERYTHING
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "scripts/uv.txt"])
def test_a_change_of_what_it_is_made_from_sets_up_again(setup_venv, tmp_path, changed):
    setup_venv.main()
    (tmp_path / changed).write_text("changed")
    assert setup_venv.main() == 0
    assert setup_venv.done == EVERYTHING * 2


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), 130), (subprocess.CalledProcessError(1, ["uv", "pip", "sync"]), 1)],
)
def test_a_setup_that_broke_off_is_taken_up_again(setup_venv, monkeypatch, error, status):
    whole = setup_venv._install_locked

    def break_off():
        raise error

    monkeypatch.setattr(setup_venv, "_install_locked", break_off)
    assert setup_venv.main() == status
    assert not setup_venv._STAMP.exists()
    monkeypatch.setattr(setup_venv, "_install_locked", whole)
    assert setup_venv.main() == 0
    assert setup_venv._STAMP.exists()


def test_a_broken_off_change_is_not_current_even_when_taken_back(setup_venv, tmp_path, monkeypatch):
    setup_venv.main()

    def break_off():
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_venv, "_install_locked", break_off)
    (tmp_path / "requirements.lock").write_text("changed")
    setup_venv.main()
    (tmp_path / "requirements.lock").write_text("requirements.lock")
    assert not setup_venv._is_current()


def test_an_environment_that_was_moved_or_half_made_does_not_work(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("setup_venv", PROJECT / "scripts/setup_venv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "_PYTHON", tmp_path / ".venv" / "bin" / "python")
    assert not module._venv_works()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "pip").touch()
    assert not module._venv_works()
    # A Python that says another prefix than this folder.
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert not module._venv_works()


def test_the_environment_of_a_setup_has_nothing_of_the_shells_python(setup_venv, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert set(os.environ) - set(setup_venv._clean()) >= {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
