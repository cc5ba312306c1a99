"""The edge of the gRPC server: its port, its token, hosts that say nothing or do not read."""

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
import numpy as np
import pytest

from tests.fakes.engine_host import FakeEngineHost
from voxray.actors import grpc_server, outbox
from voxray.actors.grpc_server import InferenceServer
from voxray.base.errors import PortTakenError
from voxray.base.ids import ReplicaId
from voxray.pipelines.engines.base import SpeechOutput
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import messages as m

CONNECT = f"/{codec.SERVICE}/{codec.CONNECT}"
DESCRIBE = f"/{codec.SERVICE}/{codec.DESCRIBE}"


@asynccontextmanager
async def serving(token=None):
    engines = FakeEngineHost()
    server = InferenceServer(engines, replica_id=ReplicaId("speech-0"), token=token)
    port = await server.start("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, engines, channel, port
    finally:
        await server.aclose()


def hello(*messages, version=m.VERSION):
    return codec.encode_client_batch(m.ClientBatch(messages, version, "cafe0001"))


async def status_of(call):
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code()


async def test_it_describes_itself():
    async with serving() as (_, engines, channel, _):
        answer = await channel.unary_unary(DESCRIBE)(codec.encode_describe_request())
        description = codec.decode_description(answer)
        assert description.replica == "speech-0"
        assert [info.name for info in description.engines] == ["hears", "speaks"]
        assert (description.streams, description.max_streams) == (0, engines.max_streams)


async def test_every_host_is_told_the_load_again_and_again(monkeypatch):
    monkeypatch.setattr(grpc_server, "LOAD_INTERVAL_S", 0.001)
    async with serving() as (_, engines, channel, _):
        call = channel.stream_stream(CONNECT)()
        await call.write(hello())
        for _ in range(2):
            batch = codec.decode_server_batch(await call.read())
            assert batch.messages == (m.Load(0, engines.max_streams, 0.0),)
        answer = await channel.unary_unary(DESCRIBE)(codec.encode_describe_request())
        assert codec.decode_description(answer).load_interval_ms == 1
        call.cancel()


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer wrong"),),
        (("authorization", "right"),),
        (("authorization", ""),),
    ],
)
async def test_without_the_token_nothing_is_served(metadata):
    async with serving(token="right") as (server, _, channel, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(DESCRIBE)(b"", metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        call = channel.stream_stream(CONNECT)(metadata=metadata)
        assert await status_of(call) is grpc.StatusCode.UNAUTHENTICATED
        assert server.connections == 0


async def test_with_the_token_it_serves():
    async with serving(token="right") as (_, _, channel, _):
        metadata = (("authorization", "Bearer right"),)
        await channel.unary_unary(DESCRIBE)(b"", metadata=metadata)


async def test_a_host_that_says_nothing_is_sent_away(monkeypatch):
    monkeypatch.setattr(grpc_server, "HELLO_TIMEOUT_S", 0.01)
    async with serving() as (_, _, channel, _):
        status = await status_of(channel.stream_stream(CONNECT)())
        assert status is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("version", [0, 2])
async def test_a_version_that_is_not_served_is_refused(version):
    async with serving() as (_, _, channel, _):
        call = channel.stream_stream(CONNECT)()
        await call.write(hello(version=version))
        assert await status_of(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_reason_of_an_end_comes_also_while_something_is_sent(monkeypatch):
    monkeypatch.setattr(grpc_server, "LOAD_INTERVAL_S", 0.0003)
    async with serving() as (_, _, channel, _):
        for _ in range(40):
            call = channel.stream_stream(CONNECT)()
            await call.write(hello())
            await call.read()
            await call.write(b"nonsense")
            async with asyncio.timeout(20):
                assert await status_of(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_host_that_hangs_up_frees_its_streams():
    async with serving() as (server, engines, channel, _):
        call = channel.stream_stream(CONNECT)()
        await call.write(hello(m.Open(1, "hears", 1)))
        await call.read()
        assert (server.connections, engines.streams) == (1, 1)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert (server.connections, engines.streams) == (0, 0)


async def test_a_host_that_does_not_read_is_given_up(monkeypatch):
    monkeypatch.setattr(outbox, "MAX_WAITING", 2)
    async with serving() as (_, engines, channel, _):
        call = channel.stream_stream(CONNECT)()
        await call.write(hello(m.Open(1, "speaks"), m.Credit(1, 10_000_000)))
        await call.read()
        engines.opened[0].say(SpeechOutput(np.zeros(100_000, dtype=np.int16)))
        assert await status_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert engines.streams == 0


async def test_a_fault_of_ours_ends_one_connection_only(monkeypatch, caplog):
    async with serving() as (_, engines, channel, _):
        good = channel.stream_stream(CONNECT)()
        await good.write(hello())
        monkeypatch.setattr(engines, "open", lambda *_, **__: 1 / 0)
        bad = channel.stream_stream(CONNECT)()
        await bad.write(hello(m.Open(1, "hears", 1)))
        assert await status_of(bad) is grpc.StatusCode.INTERNAL
        assert "connection of a host failed" in caplog.text
        monkeypatch.undo()
        await good.write(hello(m.Open(1, "hears", 1)))
        await good.read()
        assert engines.streams == 1


async def test_a_taken_port_is_said_so():
    async with serving() as (_, engines, _, port):
        another = InferenceServer(engines, replica_id=ReplicaId("speech-9"), token=None)
        with pytest.raises(PortTakenError, match="speech-9"):
            await another.start("127.0.0.1", port)
        await another.aclose()


async def test_it_closes_before_its_start_and_twice():
    async with serving() as (server, engines, _, _):
        await InferenceServer(engines, replica_id=ReplicaId("x-1"), token=None).aclose()
        await server.aclose()
        await server.aclose()
    assert not [task for task in asyncio.all_tasks() if "connection" in task.get_name()]
