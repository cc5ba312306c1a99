"""A version of the contract before ours: its host with our replica, its replica with our host.

The other side's bytes are recordings (`tests/data`); our side is the real one, over real gRPC.
"""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.fakes.replica_process import replica_at, replica_here
from tests.wire_record import HOST, REPLICA, WireRecord, new_client, talk
from voxray.actors import grpc_server
from voxray.pipelines import stream_client
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import messages as m

RECORDS = sorted((Path(__file__).parents[1] / "data").glob("wire_v*.json"))
CONNECT = f"/{codec.SERVICE}/{codec.CONNECT}"
DESCRIBE = f"/{codec.SERVICE}/{codec.DESCRIBE}"


@pytest.fixture(params=RECORDS, ids=[path.stem for path in RECORDS])
def record(request):
    return WireRecord.load(request.param)


def meant(messages):
    """What each stream was told, in order; speech as one piece, as its cuts mean nothing."""
    told = {}
    for message in messages:
        if isinstance(message, m.Acknowledged):
            continue
        said = told.setdefault(message.stream, [])
        last = said[-1] if said else None
        if isinstance(message, m.Speech) and isinstance(last, m.Speech):
            said[-1] = m.Speech(last.stream, last.first_sample, last.rate, last.pcm + message.pcm)
        elif isinstance(message, m.Flushed) and isinstance(last, m.Flushed):
            said[-1] = message
        else:
            said.append(message)
    return told


def acknowledged(messages):
    """Up to where each source was taken in."""
    return {each.source: each.sequence for each in messages if isinstance(each, m.Acknowledged)}


def replies(batches):
    return [each for batch in batches for each in codec.decode_server_batch(batch).messages]


async def answers(port, record):
    """Say what the recorded host said, at its pace; return what it was told."""
    heard = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.unary_unary(DESCRIBE)(codec.encode_describe_request())
        call = channel.stream_stream(CONNECT)()
        wanted = meant(replies(batch for who, batch in record.batches if who == REPLICA))
        before = []
        for who, batch in record.batches:
            if who == HOST:
                await call.write(batch)
                continue
            # The host had heard this before it said what comes next.
            before.append(batch)
            while not covers(meant(heard), meant(replies(before))):
                heard += codec.decode_server_batch(await call.read()).messages
        while meant(heard) != wanted:
            heard += codec.decode_server_batch(await call.read()).messages
        call.cancel()
    return heard


def covers(told, wanted):
    return all(len(told.get(stream, [])) >= len(said) for stream, said in wanted.items())


async def test_our_replica_answers_a_host_of_that_version_as_its_own_did(record):
    async with replica_here() as (_, host, replica), asyncio.timeout(30):
        heard = await answers(int(replica.address.rpartition(":")[2]), record)
        recorded = replies(batch for who, batch in record.batches if who == REPLICA)
        assert meant(heard) == meant(recorded)
        taken = acknowledged(heard)
        assert all(taken.get(source, 0) <= last for source, last in acknowledged(recorded).items())
        assert host.max_streams == 64


@asynccontextmanager
async def recorded_replica(record):
    """A gRPC server that says what the recorded replica said, each thing after its cause."""

    async def describe(_request, _context):
        return record.description

    async def connect(_requests, context):
        heard = said = 0
        for who, batch in record.batches:
            if who == HOST:
                heard += controls(batch)
                continue
            while said < heard:
                said += controls(await context.read())
            await context.write(batch)
        await context.read()

    server = grpc.aio.server()
    handlers = {
        codec.CONNECT: grpc.stream_stream_rpc_method_handler(connect),
        codec.DESCRIBE: grpc.unary_unary_rpc_method_handler(describe),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(codec.SERVICE, handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield replica_at(port)
    finally:
        await server.stop(None)


def controls(batch):
    """How many messages of a host's batch a replica answers to; credit comes when it likes."""
    messages = codec.decode_client_batch(batch).messages
    return sum(not isinstance(each, m.Credit) for each in messages)


async def test_our_host_gets_from_a_replica_of_that_version_what_its_own_got(record):
    async with recorded_replica(record) as replica, asyncio.timeout(30):
        client = new_client()
        client.set_replicas((replica,))
        try:
            assert await talk(client) == record.outcome
        finally:
            await client.aclose()


@pytest.mark.parametrize("ours", [2, 3])
async def test_the_next_version_serves_this_one_and_the_one_after_it_does_not(
    monkeypatch, ours, record
):
    served = frozenset({ours, ours - 1})
    monkeypatch.setattr(grpc_server.m, "SERVED_VERSIONS", served)
    async with replica_here() as (_, _, replica), asyncio.timeout(30):
        port = int(replica.address.rpartition(":")[2])
        if record.version in served:
            await answers(port, record)
            return
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.stream_stream(CONNECT)()
            await call.write(record.batches[0][1])
            with pytest.raises(grpc.aio.AioRpcError, match="speaks version"):
                await call.read()


async def test_a_host_refuses_a_replica_that_is_too_old_for_it(monkeypatch, record):
    monkeypatch.setattr(stream_client.m, "VERSION", record.version + 2)
    async with recorded_replica(record) as replica, asyncio.timeout(30):
        client = new_client()
        client.wait_s = 0.0
        client.set_replicas((replica,))
        with pytest.raises(Exception, match="it speaks version"):
            await client.open("stt", {})
        await client.aclose()
