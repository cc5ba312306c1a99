"""What a killed `voxray start` leaves is found by the next one: taken over, replaced or ended."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.test_host_killed import agents_in, answered, live_call
from tests.running_app import PROGRAMS, RunningApp, environment_for, free_port, voxray_app
from voxray.loadtest.livekit_server import LiveKitServer

pytestmark = pytest.mark.timeout(300)
PROGRAM = PROGRAMS / "ungreeting.py"

HEAD = """
import ray, sys
from ray._private.node import Node
from ray._private.parameter import RayParams
node = Node(RayParams(
    num_cpus=8, num_gpus=1, include_dashboard=False, dashboard_host="127.0.0.1",
    node_ip_address="127.0.0.1", temp_dir=sys.argv[1],
), head=True, shutdown_at_exit=True, spawn_reaper=False)
print(node.gcs_address, flush=True)
sys.stdin.read()
node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
"""
TOKEN = "f" * 64
"""What the tests' cluster asks for."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Ray cluster that outlives the commands; the environment that reaches it."""
    folder = tmp_path_factory.mktemp("ray")
    access = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, str(folder)],
        env={
            **environment_for(None, folder),
            **access,
            "RAY_worker_niceness": "0",
            "RAY_preload_python_modules": "livekit.agents,livekit.rtc",
            "RAY_timeout_ms_task_wait_for_death_info": "0",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert head.stdout is not None
        address = head.stdout.readline().strip()
        assert address, "the cluster did not start"
        yield {**access, "VOXRAY_RAY__ADDRESS": address}
    finally:
        family = psutil.Process(head.pid).children(recursive=True)
        assert head.stdin is not None
        assert head.stdout is not None
        head.stdin.close()
        head.wait(30)
        head.stdout.close()
        for process in psutil.wait_procs(family, timeout=10)[1]:
            process.kill()


@asynccontextmanager
async def killed(
    server: LiveKitServer, home: Path, environment: dict[str, str], port: int = 0
) -> AsyncIterator[RunningApp]:
    """An app whose command is killed at the end of the context."""
    async with voxray_app(
        server, home, PROGRAM, environment=environment, port=port, ends=False
    ) as app:
        yield app
        app.process.kill()
        await asyncio.to_thread(app.process.wait)


def fault(server: LiveKitServer, home: Path, environment: dict[str, str], *arguments: str) -> str:
    """Run a start that is refused; return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "voxray", "start", str(PROGRAM), *arguments],
        env={**environment_for(server, home), **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("voxray: error:")]
    return line


async def test_a_killed_command_is_taken_over_with_its_calls(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str, cluster: dict[str, str]
) -> None:
    port = free_port()
    async with (
        killed(livekit_server, tmp_path, cluster, port) as app,
        live_call(livekit_server, room_name) as caller,
    ):
        before = await app.status()
        agent = await agents_in(livekit_server, room_name)
        app.process.kill()
        await asyncio.to_thread(app.process.wait)
        # A start that differs is refused, and nothing of it harms what runs.
        other = {**cluster, "VOXRAY_HOSTS__MAX_HOSTS": "2"}
        said = fault(livekit_server, tmp_path, other, "--http-port", str(port))
        assert "hosts.max_hosts" in said
        assert "--replace" in said
        async with voxray_app(
            *(livekit_server, tmp_path, PROGRAM, "--drain-timeout", "1"),
            environment=cluster,
            port=port,
        ) as again:
            await again.until_said("runs already on this cluster; attached to it")
            await again.until_said("Ctrl-C drains")
            now = await again.status()
            assert now["dispatchers"][0]["pid"] == before["dispatchers"][0]["pid"]
            await answered(caller, "blue garden")
            assert await agents_in(livekit_server, room_name) == agent
        # It was ended by the one that was attached to it, as by its own.
        pids = [each["pid"] for kind in ("hosts", "replicas", "dispatchers") for each in now[kind]]
        left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        assert not (await asyncio.to_thread(psutil.wait_procs, left, 10))[1]


async def test_hosts_without_a_dispatcher_are_adopted_if_they_fit(
    livekit_server: LiveKitServer, tmp_path: Path, room_name: str, cluster: dict[str, str]
) -> None:
    async with (
        killed(livekit_server, tmp_path, cluster) as app,
        live_call(livekit_server, room_name) as caller,
    ):
        before = await app.status()
        app.process.kill()
        await asyncio.to_thread(app.process.wait)
        end_dispatcher_for_good(cluster)
        async with voxray_app(livekit_server, tmp_path, PROGRAM, environment=cluster) as again:
            now = await again.until_status(lambda now: any(host["jobs"] for host in now["hosts"]))
            assert now["dispatchers"][0]["pid"] != before["dispatchers"][0]["pid"]
            busy = {host["pid"] for host in before["hosts"] if host["jobs"]}
            assert {host["pid"] for host in now["hosts"] if host["jobs"]} == busy
            assert [each["pid"] for each in now["replicas"]] == [
                each["pid"] for each in before["replicas"]
            ]
            await answered(caller, "blue garden")
            again.process.kill()
            await asyncio.to_thread(again.process.wait)
        # With other settings they are of no use, and must not stay.
        end_dispatcher_for_good(cluster)
        other = {**cluster, "VOXRAY_HOSTS__SESSIONS_PER_HOST": "3"}
        async with voxray_app(
            *(livekit_server, tmp_path, PROGRAM, "--drain-timeout", "1"), environment=other
        ) as third:
            new = {host["pid"] for host in (await third.status())["hosts"]}
            assert not new & {host["pid"] for host in now["hosts"]}
            gone = [psutil.Process(pid) for pid in busy if psutil.pid_exists(pid)]
            _, alive = await asyncio.to_thread(psutil.wait_procs, gone, 10)
            assert not alive


def end_dispatcher_for_good(cluster: dict[str, str]) -> None:
    code = (
        "import ray, sys; ray.init(sys.argv[1], namespace='voxray', log_to_driver=False); "
        "ray.kill(ray.get_actor('dispatcher'))"
    )
    subprocess.run(
        [sys.executable, "-c", code, cluster["VOXRAY_RAY__ADDRESS"]],
        env={**os.environ, **cluster},
        check=True,
        timeout=60,
        capture_output=True,
    )


def test_a_cluster_that_asks_for_another_token(
    livekit_server: LiveKitServer, tmp_path: Path, cluster: dict[str, str]
) -> None:
    for wrong in ({"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_TOKEN": ""}):
        said = fault(livekit_server, tmp_path, {**cluster, **wrong})
        assert "RAY_AUTH_TOKEN" in said, said
        assert TOKEN not in said


async def test_nothing_of_a_local_ray_whose_command_was_killed_outlives_the_next_start(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    async with killed(livekit_server, tmp_path, {}) as app:
        family = app.processes()[1:]
        run_files = list((tmp_path / ".voxray" / "run").glob("*.json"))
        assert [json.loads(path.read_text())["app"] for path in run_files] == ["voxray"]
    async with voxray_app(livekit_server, tmp_path, PROGRAM) as again:
        # Ray ends most of them with their driver; its agents it forgets.
        assert not (await asyncio.to_thread(psutil.wait_procs, family, 10))[1]
        assert len((await again.status())["dispatchers"]) == 1
    assert not list((tmp_path / ".voxray" / "run").glob("*.json"))
