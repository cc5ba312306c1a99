import subprocess

import psutil
import pytest

from voxray.loadtest.child_process import kill_child, start_child


def shell(command):
    return start_child(["/bin/sh", "-c", command], output=subprocess.PIPE)


def test_runs_the_program_itself_with_its_environment(tmp_path):
    child = start_child(
        ["/bin/sh", "-c", "echo $$ $WHO $PWD"],
        output=subprocess.PIPE,
        environment={"WHO": "me"},
        folder=tmp_path,
    )
    out, _ = child.communicate(timeout=10)
    assert out.decode().split() == [str(child.pid), "me", str(tmp_path)]
    kill_child(child)
    assert child.returncode == 0


def test_a_program_that_can_t_be_run_ends_with_an_error(tmp_path):
    child = start_child([tmp_path / "none"], output=subprocess.PIPE)
    out, _ = child.communicate(timeout=10)
    assert child.returncode == 1
    assert b"No such file" in out


@pytest.mark.parametrize("times", [1, 2])
def test_kill_ends_the_whole_session(times):
    child = shell("sleep 600 & echo $!; wait")
    grandchild = psutil.Process(int(child.stdout.readline()))
    for _ in range(times):
        kill_child(child)
    gone, _ = psutil.wait_procs([grandchild], timeout=10)
    assert gone == [grandchild]
    assert child.returncode == -9
    child.stdout.close()
