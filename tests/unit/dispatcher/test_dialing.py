"""Where workers connect, through which proxy, and what a failed dial says."""

import asyncio
import socket

import aiohttp
import pytest
from livekit.api import TokenVerifier

from tests.fakes.livekit_server import FakeLiveKit
from voxray.base.errors import ConfigError, ConnectionFailedError, CredentialsError
from voxray.base.settings import LiveKitSettings
from voxray.dispatcher.dialing import DialOptions, agent_url, dial, display_url, proxy_for

SECRET = "s" * 32
PROXY = "http://proxy:3128"


def settings(url):
    return LiveKitSettings(url=url, api_key="key", api_secret=SECRET)


async def attempt(url, options=None):
    async with aiohttp.ClientSession() as session:
        ws = await dial(session, settings(url), options or DialOptions())
        await ws.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://host:7880", "ws://host:7880/agent"),
        ("wss://host", "wss://host/agent"),
        ("http://host:7880/", "ws://host:7880/agent"),
        ("https://host/base", "wss://host/base/agent"),
        ("wss://host/base/", "wss://host/base/agent"),
        ("wss://host/base?x=1", "wss://host/base/agent"),
    ],
)
def test_agent_url(url, expected):
    assert agent_url(url) == expected


def test_a_displayed_address_has_no_password():
    assert display_url("wss://user:secret@host:1/base?token=secret") == "wss://host:1/base"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("wss://host", {}, None),
        ("wss://host", {"HTTP_PROXY": PROXY}, PROXY),
        ("ws://host", {"HTTP_PROXY": "http://other", "HTTPS_PROXY": PROXY}, PROXY),
        ("ws://127.0.0.1:7880", {"HTTP_PROXY": PROXY}, None),
        ("ws://localhost:7880", {"HTTP_PROXY": PROXY}, None),
        ("ws://[::1]:7880", {"HTTP_PROXY": PROXY}, None),
        ("wss://lk.corp.net", {"HTTP_PROXY": PROXY, "NO_PROXY": ".corp.net"}, None),
        ("wss://lk.corp.net", {"HTTP_PROXY": PROXY, "no_proxy": "a, corp.net"}, None),
        ("wss://lk.corp.net", {"HTTP_PROXY": PROXY, "NO_PROXY": "other.net"}, PROXY),
        ("wss://lk.corp.net", {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("wss://lk.corp.net", {"HTTP_PROXY": PROXY, "NO_PROXY": ", LK.corp.net"}, None),
        ("wss://notcorp.net", {"HTTP_PROXY": PROXY, "NO_PROXY": "corp.net"}, PROXY),
        ("wss://corp.net", {"HTTP_PROXY": PROXY, "NO_PROXY": ","}, PROXY),
    ],
)
def test_proxy(url, environment, expected):
    assert proxy_for(url, environment) == expected


@pytest.mark.parametrize(
    ("url", "environment", "given", "expected"),
    [
        # The program's own, also to a server on this machine.
        ("ws://127.0.0.1:7880", {}, PROXY, PROXY),
        ("wss://host", {"HTTP_PROXY": "http://other", "NO_PROXY": "*"}, PROXY, PROXY),
        # Explicitly none.
        ("wss://host", {"HTTP_PROXY": PROXY}, "", None),
        # What the program found in the environment itself.
        ("wss://host", {"HTTP_PROXY": PROXY}, PROXY, PROXY),
        ("ws://127.0.0.1:7880", {"HTTP_PROXY": PROXY}, PROXY, None),
        ("wss://host", {}, "", None),
    ],
)
def test_the_program_s_own_proxy(url, environment, given, expected):
    assert proxy_for(url, environment, given=given) == expected


async def test_dials_below_the_path_with_a_worker_token():
    async with FakeLiveKit() as server:
        dialled = asyncio.create_task(attempt(f"{server.url}/base/"))
        await (await server.accept()).receive_all()
        await dialled
    assert server.paths == ["/base/agent"]
    assert TokenVerifier("key", SECRET).verify(server.tokens[0]).video.agent


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_keys_name_the_variables(status):
    async with FakeLiveKit() as server:
        server.refuse(status)
        with pytest.raises(CredentialsError, match="check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"):
            await attempt(server.url)


async def test_another_server_at_the_address_is_named():
    async with FakeLiveKit() as server:
        server.refuse(404)
        with pytest.raises(ConfigError, match="no LiveKit server at this address"):
            await attempt(server.url)


@pytest.mark.parametrize("status", [200, 429, 500, 503])
async def test_other_statuses_may_pass(status):
    async with FakeLiveKit() as server:
        server.refuse(status)
        with pytest.raises(ConnectionFailedError, match=str(status)):
            await attempt(server.url)


async def test_a_closed_port_is_refused():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ConnectionFailedError, match=f"127.0.0.1:{port}: connection refused"):
        await attempt(f"ws://127.0.0.1:{port}")


async def test_a_name_that_does_not_resolve(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionFailedError, match=r"the name nowhere\.invalid does not resolve"):
        await attempt("ws://nowhere.invalid:7880")


async def test_an_address_that_can_not_be():
    with pytest.raises(ConfigError, match="check LIVEKIT_URL"):
        await attempt("ws://127.0.0.1:99999")


async def test_a_proxy_that_is_not_there_is_named():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConnectionFailedError, match="the proxy can't be reached"):
        await attempt("ws://nowhere.invalid", DialOptions(proxy=proxy))


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak websocket"),
        (b"", "hung up on the handshake"),
    ],
)
async def test_something_that_speaks_no_http(says, reason):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionFailedError, match=reason):
            await attempt(f"ws://127.0.0.1:{port}")


async def test_a_server_that_says_nothing_has_a_deadline():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ConnectionFailedError, match=r"no answer within 0\.05 s"):
            await attempt(f"ws://127.0.0.1:{silent.getsockname()[1]}", DialOptions(dial_s=0.05))


async def test_a_worker_token_goes_along():
    async with FakeLiveKit() as server:
        await attempt(server.url)
        await attempt(server.url, DialOptions(worker_token="of-the-cloud"))
        assert server.queries == [{}, {"worker_token": "of-the-cloud"}]
    assert "of-the-cloud" not in repr(DialOptions(worker_token="of-the-cloud"))
