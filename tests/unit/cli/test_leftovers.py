"""A local Ray's folder is locked by its command; what a killed one leaves is found and ended."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from voxray.cli import leftovers
from voxray.cli.leftovers import clear, find_leftovers, make_folder

OWNER = """
import os, signal, subprocess, sys
from voxray.cli.leftovers import make_folder
folder = make_folder(sys.argv[1])
child = [sys.executable, "-c", "import time; time.sleep(600)"]
marked = {**os.environ, "RAY_TMPDIR": str(folder.path)}
if sys.argv[2] == "marked":
    subprocess.Popen(child, env=marked, stdout=subprocess.DEVNULL)
else:
    subprocess.Popen(child, stdout=(folder.path / "worker.out").open("w"))
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_temp(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def start_owner(app, how="marked"):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, app, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    path = Path(owner.stdout.readline().strip())
    (child,) = psutil.Process(owner.pid).children()
    return owner, path, child


def kill(owner):
    owner.kill()
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()


def test_what_is_owned_is_left_alone():
    owner, _, child = start_owner("desk")
    try:
        assert find_leftovers() == ()
        mine = make_folder("mine")
        assert find_leftovers() == ()
        assert mine.path.is_dir()
        mine.close()
        assert not mine.path.exists()
    finally:
        kill(owner)
        child.kill()


@pytest.mark.parametrize("how", ["marked", "by its log file"])
def test_what_a_killed_command_left_is_ended_by_a_start_of_its_app_only(how):
    owner, path, child = start_owner("desk", how)
    try:
        kill(owner)
        (found,) = find_leftovers()
        assert (found.app, found.path, found.processes) == ("desk", path, (child,))
        told = []
        clear("shop", told.append)
        assert child.is_running()
        assert "app desk was killed" in told[0]
        assert str(child.pid) in told[0]
        clear("desk", told.append)
        assert not child.is_running()
        assert not path.exists()
        assert find_leftovers() == ()
    finally:
        kill(owner)
        if child.is_running():
            child.kill()


def test_an_abandoned_folder_without_processes_is_deleted():
    folder = make_folder("desk")
    os.close(folder.lock)
    assert find_leftovers() == ()
    assert not folder.path.exists()


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_folders_of_others_are_none_of_ours(tmp_path, content):
    other = tmp_path / "voxray-other"
    other.mkdir()
    if content is not None:
        (other / "owner.json").write_text(content)
    assert find_leftovers() == ()
    assert other.exists()


def test_nobody_else_reads_the_token():
    first, second = make_folder("desk"), make_folder("desk")
    tokens = {each.token_file.read_text() for each in (first, second)}
    assert len(tokens) == 2
    assert all(len(token) == 64 for token in tokens)
    assert stat.S_IMODE(first.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o700
    assert not any(token in repr(first) for token in tokens)
    first.close()
    second.close()
