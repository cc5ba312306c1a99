import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
import yaml
from livekit import api

from voxray.base.errors import ConnectionFailedError
from voxray.cli.home import build_home
from voxray.loadtest import livekit_server as module
from voxray.loadtest.livekit_server import LiveKitServer, find_or_install


@pytest.fixture
def server(livekit_server):
    """A server of the test's own; asking for the shared one gets the program built in time."""
    return LiveKitServer(find_or_install(build_home(os.environ)))


async def rooms(server):
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as client:
        return await client.room.list_rooms(api.ListRoomsRequest())


async def test_serves_its_own_key_and_goes_without_a_trace(server):
    async with server:
        assert list((await rooms(server)).rooms) == []
        pid, folder = server.pid, server.log_path.parent
        assert psutil.pid_exists(pid)
        assert len(server.api_secret) >= 32
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    await server.stop()


async def test_another_key_is_refused(server):
    async with server:
        other = LiveKitServer(Path("unused"))
        async with api.LiveKitAPI(server.url, other.api_key, other.api_secret) as client:
            with pytest.raises(api.TwirpError, match="status=401"):
                await client.room.list_rooms(api.ListRoomsRequest())


async def test_listens_on_loopback_only_and_shows_no_secret(server):
    async with server:
        process = psutil.Process(server.pid)
        listening = [c.laddr.ip for c in process.net_connections() if not c.raddr]
        assert set(listening) == {"127.0.0.1"}
        assert server.api_secret not in " ".join(process.cmdline())
        folder = server.log_path.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "livekit.yaml").stat().st_mode) == 0o600
        assert server.api_secret not in server.log_path.read_text()


async def test_restarts_on_the_same_address(server):
    async with server:
        url, pid = server.url, server.pid
        await server.restart()
        assert (server.url, psutil.pid_exists(pid)) == (url, False)
        await rooms(server)


def test_works_without_an_event_loop_and_across_loops(server):
    with server:
        asyncio.run(server.restart())
        assert asyncio.run(rooms(server))


async def test_extra_settings_are_merged_into_sections(server):
    mine = LiveKitServer(server._program, extra_config={"room": {"empty_timeout": 7}})
    async with mine:
        async with api.LiveKitAPI(mine.url, mine.api_key, mine.api_secret) as client:
            room = await client.room.create_room(api.CreateRoomRequest(name="r"))
        assert room.empty_timeout == 7
    merged = LiveKitServer(Path("unused"), extra_config={"rtc": {"tcp_port": 1}, "port": 2})
    config = merged._config(module._Ports(http=3, rtc=4))
    assert (config["port"], config["rtc"]["tcp_port"], config["rtc"]["udp_port"]) == (2, 1, 4)
    # No participant asks the internet for its address.
    assert all(each.startswith("127.0.0.1:") for each in config["rtc"]["stun_servers"])


async def test_a_bad_setting_fails_at_once_with_the_servers_words(server):
    bad = LiveKitServer(server._program, extra_config={"port": "x"})
    with pytest.raises(ConnectionFailedError, match="cannot unmarshal"):
        await bad.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = bad.url


async def test_a_port_lost_in_a_race_is_replaced(server, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        real, lost = module._free_ports, [taken.getsockname()[1]]

        def first_is_taken():
            ports = real()
            return module._Ports(http=lost.pop(), rtc=ports.rtc) if lost else ports

        monkeypatch.setattr(module, "_free_ports", first_is_taken)
        async with server:
            assert server.url != f"ws://127.0.0.1:{taken.getsockname()[1]}"
            await rooms(server)


async def test_a_second_start_is_a_mistake_that_harms_nobody(server):
    async with server:
        with pytest.raises(RuntimeError, match="runs already"):
            await server.start()
        await rooms(server)


async def test_config_file_is_what_the_server_reads(server):
    async with server:
        config = yaml.safe_load((server.log_path.parent / "livekit.yaml").read_text())
        assert config["keys"] == {server.api_key: server.api_secret}


def test_dies_with_a_parent_that_is_killed(server):
    script = textwrap.dedent(
        """
        import signal, sys
        from pathlib import Path
        from voxray.loadtest.livekit_server import LiveKitServer
        server = LiveKitServer(Path(sys.argv[1]))
        server.start_blocking()
        print(server.pid, server.log_path.parent, flush=True)
        signal.pause()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(server._program)], stdout=subprocess.PIPE, text=True
    ) as parent:
        pid, folder = parent.stdout.readline().split()
        child = psutil.Process(int(pid))
        parent.send_signal(signal.SIGKILL)
        gone, _ = psutil.wait_procs([child], timeout=10)
        assert gone == [child]
    for file in Path(folder).iterdir():
        file.unlink()
    Path(folder).rmdir()
