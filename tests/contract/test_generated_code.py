"""The generated code is what the contract gives, and speaks to our server as any client would."""

import asyncio

import grpc
import pytest

from scripts import gen_proto
from tests.fakes.replica_process import replica_here
from voxray.pipelines.wire import inference_pb2 as pb
from voxray.pipelines.wire import inference_pb2_grpc


def test_the_generated_code_is_current():
    assert gen_proto.stale() == []


def test_a_change_of_the_contract_is_noticed(monkeypatch, tmp_path):
    def generate_otherwise(target):
        original(target)
        path = target / gen_proto.WIRE / "inference_pb2.py"
        path.write_text(path.read_text() + "# changed")

    original = gen_proto.generate
    monkeypatch.setattr(gen_proto, "generate", generate_otherwise)
    assert gen_proto.stale() == ["inference_pb2.py"]


async def answers(call, count):
    """The first `count` messages that come back on a call."""
    found = []
    while len(found) < count:
        found.extend((await call.read()).messages)
    return found


async def test_a_client_made_from_the_contract_alone_is_served():
    async with (
        replica_here() as (_, _, replica),
        grpc.aio.insecure_channel(replica.address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceStub(channel)
        description = await stub.Describe(pb.DescribeRequest())
        assert [engine.name for engine in description.engines] == ["listener", "speaker"]
        assert (description.version, description.max_streams) == (1, 64)

        call = stub.Connect()
        messages = [
            pb.ClientMessage(open=pb.Open(stream=1, engine="stt", source=7)),
            pb.ClientMessage(audio=pb.Audio(source=7, sequence=1, rate=16_000, pcm=b"\0\0" * 800)),
            pb.ClientMessage(flush=pb.Flush(stream=1)),
        ]
        await call.write(pb.ClientBatch(version=1, host="other", messages=messages))
        opened, transcript, flushed, acknowledged = await answers(call, 4)
        assert opened.opened.engine.kind == "stt"
        assert transcript.transcript.text == "800 samples"
        assert flushed.flushed.count == 1
        assert acknowledged.acknowledged.sequence == 1
        await call.done_writing()


async def say(replica, *batches):
    """The status with which the replica ends a call that says these batches."""
    async with grpc.aio.insecure_channel(replica.address) as channel:
        call = channel.stream_stream("/voxray.inference.v1.Inference/Connect")()
        for batch in batches:
            await call.write(batch)
        while await call.read() is not grpc.aio.EOF:
            pass
        return await call.code()


@pytest.mark.parametrize(
    "batch",
    [
        b"\xff\xff\xff",
        pb.ClientBatch(version=99, host="h").SerializeToString(),
        pb.ClientBatch(host="h").SerializeToString(),
        pb.ClientBatch(version=1, messages=[pb.ClientMessage()]).SerializeToString(),
    ],
    ids=["no batch", "another version", "no version", "an empty message"],
)
async def test_nonsense_ends_the_connection_with_a_reason_and_others_go_on(batch):
    async with replica_here() as (server, _, replica):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await say(replica, batch)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await asyncio.sleep(0)
        assert server.connections == 0
        async with grpc.aio.insecure_channel(replica.address) as channel:
            await inference_pb2_grpc.InferenceStub(channel).Describe(pb.DescribeRequest())
