import json
import os
import stat
import subprocess
import sys

import pytest

from voxray.base.errors import ConfigError
from voxray.cli.run_files import (
    RunFile,
    check_name_is_free,
    read_run_files,
    remove_run_file,
    write_run_file,
)


@pytest.fixture
def environment(tmp_path):
    return {"VOXRAY_HOME": str(tmp_path / "home")}


def run(app="demo", pid=None):
    return RunFile(app=app, api="http://127.0.0.1:1", pid=pid or os.getpid(), token="t0ken")


def test_what_is_written_is_read_until_it_is_removed(environment):
    assert read_run_files(environment) == ()
    first = write_run_file(run("b"), environment)
    write_run_file(run("a"), environment)
    assert read_run_files(environment) == (run("a"), run("b"))
    remove_run_file(first)
    remove_run_file(first)
    assert read_run_files(environment) == (run("a"),)


def test_a_newer_run_replaces_the_older(environment):
    write_run_file(run(), environment)
    newer = RunFile(app="demo", api="http://127.0.0.1:2", pid=None, token="other")
    path = write_run_file(newer, environment)
    assert read_run_files(environment) == (newer,)
    assert list(path.parent.iterdir()) == [path]


def test_nobody_else_may_read_the_token(environment):
    before = os.umask(0)
    try:
        path = write_run_file(run(), environment)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "t0ken" not in repr(run())


def test_files_of_processes_that_are_gone_are_deleted(environment):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    path = write_run_file(run(pid=process.pid), environment)
    assert read_run_files(environment) == ()
    assert not path.exists()


def test_a_number_that_another_process_has_by_now_is_no_sign_of_life(environment):
    path = write_run_file(run(), environment)
    content = json.loads(path.read_text())
    assert read_run_files(environment)[0].started_at == content["started_at"]
    path.write_text(json.dumps(content | {"started_at": content["started_at"] - 3600}))
    assert read_run_files(environment) == ()
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"app": "a", "api": "b", "pid": "x", "token": ""}', "\xff"]
)
def test_broken_files_are_deleted(environment, text):
    path = write_run_file(run(), environment)
    path.write_text(text, encoding="latin-1")
    assert read_run_files(environment) == ()
    assert not path.exists()


def test_a_home_that_can_t_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="VOXRAY_HOME"):
        write_run_file(run(), {"VOXRAY_HOME": str(tmp_path / "file")})


def test_without_a_variable_it_is_in_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write_run_file(run(), {})
    assert path == tmp_path / ".voxray" / "run" / "demo.json"


def test_the_name_of_a_running_app_is_taken(environment):
    write_run_file(RunFile(app="one", api="http://a:1", pid=os.getpid(), token="t"), environment)
    with pytest.raises(ConfigError, match="--app"):
        check_name_is_free("one", environment)
    check_name_is_free("two", environment)
    write_run_file(RunFile(app="far", api="http://a:1", pid=None, token="t"), environment)
    check_name_is_free("far", environment)


def test_the_file_of_another_process_is_not_ours_to_remove(environment):
    other = os.getppid()
    path = write_run_file(RunFile(app="one", api="http://a:1", pid=other, token="t"), environment)
    remove_run_file(path)
    assert [run.pid for run in read_run_files(environment)] == [other]
