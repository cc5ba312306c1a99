"""Mutual TLS between hosts, replicas and dispatchers: who shows no certificate is not heard."""

import contextlib

import grpc
import grpc.aio
import pytest

from tests.fakes.certificates import Authority
from tests.fakes.replica_process import replica_here
from tests.wire_record import new_client, talk
from voxray.actors.control import ControlServer, ReportHub, watch
from voxray.actors.grpc_server import InferenceServer
from voxray.base.errors import CapacityError, ConfigError, ConnectionFailedError
from voxray.base.ids import ReplicaId
from voxray.base.tls import load_certificates
from voxray.pipelines.wire import codec

DESCRIBE = f"/{codec.SERVICE}/{codec.DESCRIBE}"


@pytest.fixture
def ours(tmp_path):
    return load_certificates(Authority(tmp_path).sign())


@pytest.fixture
def theirs(tmp_path):
    """Of another authority, under the right name."""
    (tmp_path / "theirs").mkdir()
    return load_certificates(Authority(tmp_path / "theirs").sign())


@contextlib.asynccontextmanager
async def client_of(replica, certificates):
    client = new_client(token="right", certificates=certificates)
    client.wait_s = 0.0
    client.set_replicas((replica,))
    try:
        yield client
    finally:
        await client.aclose()


async def test_a_whole_talk_over_tls(ours):
    async with (
        replica_here(token="right", certificates=ours) as (_, _, replica),
        client_of(replica, ours) as client,
    ):
        outcome = await talk(client)
        assert outcome["speech"] == [[700, 244650], [300, 44850]]


async def test_a_host_of_another_authority_is_not_served(ours, theirs):
    async with (
        replica_here(token="right", certificates=ours) as (server, _, replica),
        client_of(replica, theirs) as client,
    ):
        with pytest.raises(CapacityError):
            await client.open("stt", {})
        assert server.connections == 0


async def test_a_host_that_shows_no_certificate_is_not_served(ours):
    only_trust = grpc.ssl_channel_credentials(ours.authority)
    options = [("grpc.ssl_target_name_override", "voxray")]
    async with (
        replica_here(token="right", certificates=ours) as (_, _, replica),
        grpc.aio.secure_channel(replica.address, only_trust, options=options) as channel,
    ):
        metadata = (("authorization", "Bearer right"),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(DESCRIBE)(b"", metadata=metadata, timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_host_without_tls_is_not_served(ours):
    async with (
        replica_here(token="right", certificates=ours) as (_, _, replica),
        client_of(replica, None) as client,
    ):
        with pytest.raises(CapacityError):
            await client.open("stt", {})


async def test_a_certificate_does_not_take_the_place_of_the_token(ours):
    async with (
        replica_here(token="another", certificates=ours) as (_, _, replica),
        client_of(replica, ours) as client,
    ):
        with pytest.raises(CapacityError):
            await client.open("stt", {})


async def test_the_control_stream_is_under_tls_too(ours, theirs):
    hub = ReportHub(30.0)
    hub.attach(snapshot=tuple, heartbeat=lambda _: None)
    server = ControlServer(hub, token="right", certificates=ours)
    port = await server.start("127.0.0.1")
    try:
        for certificates in (None, theirs):
            with pytest.raises(ConnectionFailedError, match="UNAVAILABLE"):
                await anext(watch(f"127.0.0.1:{port}", "right", certificates))
        with pytest.raises(ConnectionFailedError, match="UNAUTHENTICATED"):
            await anext(watch(f"127.0.0.1:{port}", "wrong", ours))
    finally:
        await server.aclose()


async def test_without_a_token_nobody_listens_beyond_loopback():
    server = InferenceServer(None, replica_id=ReplicaId("speech-0"), token=None)
    with pytest.raises(ConfigError, match=r"not listen on 0\.0\.0\.0 without a token"):
        await server.start("0.0.0.0", 0)
    control = ControlServer(ReportHub(30.0))
    with pytest.raises(ConfigError, match="without a token"):
        await control.start("0.0.0.0")
