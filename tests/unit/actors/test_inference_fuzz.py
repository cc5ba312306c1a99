"""Whatever bytes a host sends, only its own streams end by it: over real gRPC, in real batches."""

import asyncio
import gc
import logging
import random
import threading
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.event_log import EventLog
from tests.fakes.replica_process import NamedEngine, replica_here
from tests.properties.test_codec import client_messages
from voxray.observability.events import StreamsChanged
from voxray.pipelines.engines.base import EngineKind
from voxray.pipelines.engines.scripted import POISON
from voxray.pipelines.wire import codec
from voxray.pipelines.wire import inference_pb2 as pb
from voxray.pipelines.wire import messages as m

CONNECT = f"/{codec.SERVICE}/{codec.CONNECT}"
PCM = b"\1\0" * 160
NEIGHBOUR = 1
FOUL = 2
"""A stream on the same connection as the neighbour, which gets all the nonsense."""


def engines():
    return [
        NamedEngine(name="listener", kind=EngineKind.STT),
        NamedEngine(name="speaker", kind=EngineKind.TTS, poison_fails_batch=True),
    ]


class Wire:
    """One connection, spoken by hand."""

    def __init__(self, channel) -> None:
        self.call = channel.stream_stream(CONNECT)()
        self.heard = []

    async def say(self, *messages, version=0):
        await self.raw(codec.encode_client_batch(m.ClientBatch(messages, version)))

    async def hello(self):
        batch = m.ClientBatch((), m.VERSION, "cafe0001")
        await self.raw(codec.encode_client_batch(batch))

    async def raw(self, data):
        await self.call.write(data)

    async def until(self, wanted):
        """Read until a message is wanted; return it."""
        while True:
            data = await self.call.read()
            assert data is not grpc.aio.EOF, "the connection ended"
            messages = codec.decode_server_batch(data).messages
            self.heard += messages
            for message in messages:
                if wanted(message):
                    return message

    async def end(self):
        """Read to the end; return its status."""
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while await self.call.read() is not grpc.aio.EOF:
                pass
        return await self.call.code()


@asynccontextmanager
async def served(**options):
    log = EventLog()
    async with (
        asyncio.timeout(60),
        replica_here(hosted=engines(), sink=log, **options) as (server, host, replica),
        grpc.aio.insecure_channel(replica.address) as channel,
    ):
        yield server, host, channel, log


async def neighbour_is_served(wire, sequence, heard=160):
    """The neighbour says something and is understood: all of it, and nothing else."""
    await wire.say(m.Audio(NEIGHBOUR, sequence, 16_000, PCM), m.Flush(NEIGHBOUR))
    result = await wire.until(lambda each: isinstance(each, m.Result) and each.output.final)
    assert (result.stream, result.output.text) == (NEIGHBOUR, f"{heard} samples")


def foul(message):
    """The same message about the foul stream or its source, if it is about one."""
    given_ = {name: getattr(message, name) for name in message.__slots__}
    return type(message)(**{**given_, **{n: FOUL for n in ("stream", "source") if n in given_}})


def run(scene):
    asyncio.run(scene)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=st.lists(st.lists(client_messages.map(foul), max_size=8), max_size=8))
def test_random_messages_about_a_stream_disturb_no_other_of_the_connection(batches):
    async def scene():
        async with served() as (_, _, channel, _):
            wire = Wire(channel)
            await wire.hello()
            await wire.say(m.Open(NEIGHBOUR, "listener", NEIGHBOUR))
            for sequence, messages in enumerate(batches, start=1):
                kind = ("listener", "speaker")[sequence % 2]
                await wire.say(m.Open(FOUL, kind, FOUL if sequence % 2 == 0 else 0))
                await wire.say(*messages)
                await wire.say(m.Text(FOUL, POISON))
                await neighbour_is_served(wire, sequence)
            failures = [each for each in wire.heard if isinstance(each, m.Failed)]
            assert {each.stream for each in failures} <= {FOUL}
            assert {each.code for each in failures} <= {"config", "input", "protocol", "engine"}
            wire.call.cancel()

    run(scene())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batches=st.lists(
        st.lists(client_messages, min_size=1, max_size=6).map(
            lambda each: codec.encode_client_batch(m.ClientBatch(tuple(each), m.VERSION, "bad"))
        ),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_damaged_batches_end_at_the_worst_the_connection_that_sent_them(batches, data):
    damaged = []
    for batch in batches:
        mutated = bytearray(batch)
        for _ in range(data.draw(st.integers(0, 3))):
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
        damaged.append(bytes(mutated))

    async def scene():
        async with served() as (server, host, channel, _):
            good = Wire(channel)
            await good.hello()
            await good.say(m.Open(NEIGHBOUR, "listener", NEIGHBOUR))
            bad = Wire(channel)
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for batch in damaged:
                    await bad.raw(batch)
                await bad.call.done_writing()
            status = await bad.end()
            if status is grpc.StatusCode.INTERNAL:
                # Of this end: what was written met the end of the call.
                assert await bad.call.details() == "Internal error from Core"
            else:
                assert status in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
            await neighbour_is_served(good, 1)
            # Whatever it had opened went with it.
            assert (server.connections, host.streams) == (1, 1)
            good.call.cancel()

    run(scene())


def test_poison_in_a_batch_over_grpc_ends_its_stream_only():
    async def scene():
        async with served() as (_, _, channel, _):
            wire = Wire(channel)
            await wire.hello()
            streams = range(1, 17)
            rng = random.Random(7)
            poisoned = set(rng.sample(streams, 5))
            await wire.say(*(m.Open(number, "speaker") for number in streams))
            await wire.say(*(m.Credit(number, 1_000_000) for number in streams))
            await wire.say(
                *(
                    m.Text(number, POISON if number in poisoned else "x" * number)
                    for number in streams
                ),
                *(m.EndInput(number) for number in streams),
            )
            over = set()
            while len(over) < len(streams):
                last = await wire.until(lambda each: isinstance(each, m.Failed | m.Finished))
                over = {e.stream for e in wire.heard if isinstance(e, m.Failed | m.Finished)}
                assert last.stream in over
            failures = [each for each in wire.heard if isinstance(each, m.Failed)]
            assert sorted(each.stream for each in failures) == sorted(poisoned)
            assert all(
                each.code == "engine" and f"cafe0001/{each.stream} " in each.message
                for each in failures
            )
            spoken = {
                each.stream: len(each.pcm) for each in wire.heard if isinstance(each, m.Speech)
            }
            assert spoken == {number: 2 * number for number in streams if number not in poisoned}
            wire.call.cancel()

    run(scene())


def test_nothing_grows_under_thousands_of_bad_streams(caplog):
    # Pytest keeps records, these their errors, and those the frames that they came through.
    caplog.set_level(logging.CRITICAL, logger="voxray")

    async def scene():
        async with served(max_streams=4) as (_, host, channel, log):
            wire = Wire(channel)
            await wire.hello()
            await wire.say(m.Open(NEIGHBOUR, "listener", NEIGHBOUR))
            await neighbour_is_served(wire, 1)

            async def abuse(rounds, sequence):
                for _ in range(rounds):
                    await wire.say(
                        m.Open(FOUL, "listener", FOUL, {"fail_after": 1}),
                        m.Audio(FOUL, 99, 16_000, PCM),
                        m.Open(FOUL, "nobody"),
                        m.Open(FOUL, "speaker", 0, {"nonsense": [1]}),
                        m.Open(FOUL, "speaker"),
                        *(m.Flush(FOUL) for _ in range(20)),
                        m.Text(FOUL, POISON),
                        m.CloseSource(FOUL),
                    )
                await neighbour_is_served(wire, sequence)
                executors = host._executors.values()
                # Nothing tells when what failed last has been worked on.
                while host.streams > 1 or any(executor._busy for executor in executors):  # noqa: ASYNC110
                    await asyncio.sleep(0)
                wire.heard.clear()
                log.events.clear()
                for executor in executors:
                    executor.engine.sessions.clear()  # Kept for tests to look at.
                    executor.engine.batches.clear()

            await abuse(20, 2)
            before = kept()
            await abuse(200, 3)
            assert host.streams == 1
            after = kept()
            assert after - before <= 200, f"{before} objects before, {after} after"
            wire.call.cancel()

    run(scene())


def kept():
    """How many objects of ours there are."""
    gc.collect()
    return sum(str(type(each).__module__).startswith("voxray") for each in gc.get_objects())


def test_streams_of_one_host_are_bounded_and_others_have_theirs():
    async def scene():
        async with served() as (server, host, channel, log):
            server._max_streams_per_host = 2
            greedy, modest = Wire(channel), Wire(channel)
            await greedy.hello()
            await greedy.say(*(m.Open(number, "speaker") for number in (1, 2, 3)))
            refused = await greedy.until(lambda each: isinstance(each, m.Failed))
            assert (refused.stream, refused.code, refused.retryable) == (3, "limit", True)
            await modest.hello()
            await modest.say(m.Open(1, "speaker"))
            await modest.until(lambda each: isinstance(each, m.Opened))
            assert host.streams == 3
            greedy.call.cancel()
            await log.until(lambda events: StreamsChanged(engine="speaker", open=1) in events[-2:])
            modest.call.cancel()

    run(scene())


def test_a_batch_of_too_many_messages_ends_the_connection():
    flood = pb.ClientBatch(
        version=m.VERSION,
        host="flood",
        messages=[pb.ClientMessage(flush=pb.Flush(stream=1))] * (m.MAX_BATCH_MESSAGES + 1),
    ).SerializeToString()

    async def scene():
        async with served() as (server, _, channel, _):
            wire = Wire(channel)
            with suppress(grpc.aio.AioRpcError):
                await wire.raw(flood)
            assert await wire.end() is grpc.StatusCode.INVALID_ARGUMENT
            assert server.connections == 0

    run(scene())


def test_a_message_beyond_the_size_limit_ends_the_connection():
    async def scene():
        async with served() as (server, _, channel, _):
            wire = Wire(channel)
            with suppress(grpc.aio.AioRpcError):
                await wire.raw(b"\0" * (m.MAX_MESSAGE_BYTES + 1))
            assert await wire.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert server.connections == 0

    run(scene())


def test_closing_a_stream_reaches_the_engine_that_works_for_it():
    began, let_go = threading.Event(), threading.Event()
    seen = []

    def work(items):
        began.set()
        let_go.wait(30)
        seen.extend(item.cancelled() for item in items)

    async def scene():
        speaker = NamedEngine(name="speaker", kind=EngineKind.TTS, on_batch=work)
        async with (
            asyncio.timeout(60),
            replica_here(hosted=[speaker]) as (_, host, replica),
            grpc.aio.insecure_channel(replica.address) as channel,
        ):
            try:
                wire = Wire(channel)
                await wire.hello()
                await wire.say(m.Open(1, "speaker"), m.Text(1, "words"), m.Text(1, "more"))
                await asyncio.to_thread(began.wait, 30)
                await wire.say(m.Close(1), m.Open(2, "speaker"))
                await wire.until(lambda each: isinstance(each, m.Opened) and each.stream == 2)
                assert host.streams == 1
            finally:
                let_go.set()
            await wire.say(m.EndInput(2))
            await wire.until(lambda each: isinstance(each, m.Finished))
            wire.call.cancel()

    run(scene())
    # The first batch was abandoned while it ran, and nothing more of its stream was run.
    assert seen == [True, False]
