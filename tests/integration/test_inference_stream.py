"""Session host and replicas over real gRPC: many calls on one connection, and what breaks it."""

import asyncio
import contextvars
import gc
import os
import signal
import socket
from contextlib import asynccontextmanager

import numpy as np
import pytest

from tests.fakes.event_log import EventLog
from tests.fakes.replica_process import NamedEngine, replica_at, replica_here, replica_process
from voxray.actors.task_scope import TaskScope, install_task_factory
from voxray.base.errors import (
    CapacityError,
    EngineConfigError,
    EngineError,
    PeerFailedError,
    ProtocolError,
    StreamClosedError,
    StreamFinishedError,
)
from voxray.base.ids import HostId
from voxray.base.timing import SystemClock
from voxray.observability.events import StreamReopened, StreamsChanged
from voxray.pipelines.engines.base import EngineKind, SpeechOutput, TranscriptOutput
from voxray.pipelines.remote_client import RemoteInferenceClient
from voxray.pipelines.remote_stream import CREDIT_BYTES, RESULT_LIMIT

pytestmark = pytest.mark.integration

RATE = 16_000
FRAME = b"\x01\x00" * 160
"""10 ms at 16 kHz."""


@pytest.fixture(autouse=True)
async def nothing_runs_on():
    before = asyncio.all_tasks()
    yield
    # gRPC's own tasks end a few turns of the loop after their call.
    for _ in range(100):
        await asyncio.sleep(0)
    gc.collect()
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}


@asynccontextmanager
async def client_of(*replicas, token=None, call_of=str):
    client = RemoteInferenceClient(
        host_id=HostId("cafe0001"),
        node="node",
        coalesce_ms=10.0,
        sink=EventLog(),
        clock=SystemClock(),
        token=token,
    )
    client.call_of = call_of
    client.set_replicas(replicas)
    try:
        yield client
    finally:
        await client.aclose()
    assert client.streams == 0


async def final_of(stream) -> TranscriptOutput:
    while True:
        output = await stream.receive()
        if isinstance(output, TranscriptOutput) and output.final:
            return output


async def speech_of(stream) -> np.ndarray:
    parts = []
    while True:
        try:
            output = await stream.receive()
        except StreamFinishedError:
            return np.concatenate(parts)
        assert isinstance(output, SpeechOutput)
        parts.append(output.samples)


async def test_six_calls_share_one_connection_and_get_their_own_results():
    async with replica_here() as (server, host, replica), client_of(replica) as client:
        hearing = [await client.open("stt", {}) for _ in range(6)]
        speaking = [await client.open("tts", {}) for _ in range(6)]
        for _ in range(10):
            for number, stream in enumerate(hearing, start=1):
                stream.push_audio(FRAME * number, RATE)
        for number, stream in enumerate(speaking, start=1):
            stream.push_text("x" * 1000 * number)
            stream.end_input()
        for stream in hearing:
            stream.flush()

        finals = await asyncio.gather(*(final_of(stream) for stream in hearing))
        spoken = await asyncio.gather(*(speech_of(stream) for stream in speaking))

        assert [final.text for final in finals] == [f"{1600 * n} samples" for n in range(1, 7)]
        assert [len(samples) for samples in spoken] == [1000 * n for n in range(1, 7)]
        assert all(np.array_equal(samples, np.arange(len(samples))) for samples in spoken)
        assert server.connections == 1
        assert host.streams == 6


async def test_the_end_of_the_call_that_connected_first_leaves_the_connection_to_the_others():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        undo = install_task_factory(asyncio.get_running_loop())
        try:
            for number in (1, 2):
                scope, context = TaskScope(), contextvars.copy_context()
                scope.enter(context)

                async def call(number=number):
                    stream = await client.open("stt", {})
                    stream.push_audio(FRAME * number, RATE)
                    stream.flush()
                    text = (await final_of(stream)).text
                    await stream.aclose()
                    return text

                task = asyncio.get_running_loop().create_task(call(), context=context)
                assert await task == f"{160 * number} samples"
                # A job's end cancels every task that was begun in its context.
                assert await scope.cancel_all(deadline_s=5) == []
        finally:
            undo()


async def test_a_shared_source_goes_up_once_and_feeds_all_its_streams():
    both = [NamedEngine(name="one"), NamedEngine(name="two")]
    async with replica_here(hosted=both) as (_, _, replica), client_of(replica) as client:
        source = client.new_source()
        one = await client.open("one", {}, source=source)
        two = await client.open("two", {}, source=source)
        source.push_audio(FRAME, RATE)
        one.push_audio(FRAME, RATE)
        one.flush()
        two.end_input()
        assert (await final_of(one)).text == "320 samples"
        assert (await final_of(two)).text == "320 samples"
        with pytest.raises(StreamFinishedError):
            await two.receive()


async def test_results_of_real_models():
    async with replica_here(hosted=["silero"]) as (_, _, replica), client_of(replica) as client:
        stream = await client.open("vad", {})
        stream.push_audio(b"\0\0" * 512 * 3, RATE)
        ends = [(await stream.receive()).end_sample for _ in range(3)]
        assert ends == [512, 1024, 1536]


async def test_a_killed_replica_is_replaced_and_no_audio_is_lost_or_doubled():
    async with (
        replica_process(0) as (process, first),
        replica_here(1) as (_, _, second),
        client_of(first) as client,
    ):
        streams = [await client.open("stt", {}) for _ in range(6)]
        for stream in streams:
            stream.push_audio(FRAME * 50, RATE)
            stream.flush()
        finals = [await final_of(stream) for stream in streams]
        assert {final.text for final in finals} == {"8000 samples"}
        for stream in streams:
            stream.push_audio(FRAME * 20, RATE)

        client.set_replicas((first, second))
        process.kill()
        await process.wait()
        for stream in streams:
            stream.push_audio(FRAME * 20, RATE)
            stream.flush()

        finals = [await final_of(stream) for stream in streams]
        assert {final.text for final in finals} == {"6400 samples"}
        assert [final.start_s for final in finals] == pytest.approx([0.5] * 6)
        assert [final.end_s for final in finals] == pytest.approx([0.9] * 6)
        assert len(client._sink.of(StreamReopened)) == 6


async def test_a_frozen_replica_is_left_for_another():
    async with (
        replica_process(0) as (process, first),
        replica_here(1) as (_, _, second),
        client_of(first) as client,
    ):
        stream = await client.open("stt", {})
        stream.push_audio(FRAME * 20, RATE)
        client.set_replicas((first, second))
        process.send_signal(signal.SIGSTOP)
        stream.push_audio(FRAME * 20, RATE)
        stream.flush()
        assert (await final_of(stream)).text == "6400 samples"
        # No call waits for the one that hangs: it comes after the other until it answers again.
        assert [await client.open("stt", {}) for _ in range(2)]
        assert {view.failures > 0 for view in client._pool.views()} == {True, False}
        process.send_signal(signal.SIGCONT)
        while any(view.failures for view in client._pool.views()):
            await client._changed.wait()


async def test_a_frozen_replica_without_another_is_waited_for():
    async with replica_process(0) as (process, replica), client_of(replica) as client:
        stream = await client.open("stt", {})
        process.send_signal(signal.SIGSTOP)
        stream.push_audio(FRAME * 20, RATE)
        stream.flush()
        connection = client._pool._connections[replica.replica_id]
        silent, give_up = asyncio.Event(), connection._on_silent

        def on_silent(*said) -> None:
            give_up(*said)
            silent.set()

        connection._on_silent = on_silent
        await silent.wait()
        process.send_signal(signal.SIGCONT)
        assert (await final_of(stream)).text == "3200 samples"
        assert not client._sink.of(StreamReopened)


async def test_streams_go_where_the_reported_load_is_less():
    async with (
        replica_here(0) as (_, busy, first),
        replica_here(1) as (_, idle, second),
        client_of(first) as others,
        client_of(first, second) as client,
    ):
        held = [await others.open("stt", {}) for _ in range(6)]
        for replica in (first, second):
            await client._pool.connected(replica)
        opened = [await client.open("stt", {}) for _ in range(6)]
        assert (len(held), len(opened)) == (6, 6)
        assert (busy.streams, idle.streams) == (6, 6)


async def test_a_draining_replica_takes_no_stream_and_keeps_its_own():
    async with (
        replica_here(0) as (_, draining, first),
        replica_here(1) as (_, other, second),
        client_of(first) as client,
    ):
        stream = await client.open("stt", {})
        draining.drain()
        client.set_replicas((first, second))
        await client.open("stt", {})
        assert (draining.streams, other.streams) == (1, 1)
        stream.push_audio(FRAME, RATE)
        stream.flush()
        assert (await final_of(stream)).text == "160 samples"
        assert not client._sink.of(StreamReopened)


async def test_speech_goes_on_at_the_sample_where_the_killed_replica_stopped():
    async with (
        replica_process(0) as (process, first),
        replica_here(1) as (_, _, second),
        client_of(first) as client,
    ):
        stream = await client.open("tts", {})
        for _ in range(10):
            stream.push_text("a" * 10_000)
        heard = [(await stream.receive()).samples]
        client.set_replicas((first, second))
        process.kill()
        await process.wait()
        stream.push_text("b" * 5)
        stream.end_input()
        heard.append(await speech_of(stream))
        expected = np.concatenate([np.arange(10_000)] * 10 + [np.arange(5)])
        assert np.array_equal(np.concatenate(heard), expected)


async def test_speech_longer_than_the_credit_comes_whole():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        stream = await client.open("tts", {})
        for _ in range(25):
            stream.push_text("a" * 10_000)
        stream.end_input()
        assert len(await speech_of(stream)) * 2 == 500_000 > CREDIT_BYTES


async def test_a_stream_whose_results_nobody_receives_is_closed():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        stream = await client.open("stt", {"interim": True})
        while not stream.ended:
            stream.push_audio(FRAME, RATE)
            stream.push_audio(FRAME, 2 * RATE)  # Another rate: the two can't travel as one.
            await asyncio.sleep(0)
        for _ in range(RESULT_LIMIT):
            await stream.receive()
        with pytest.raises(StreamClosedError, match="results were not received"):
            await stream.receive()


async def test_a_stream_that_loses_every_replica_is_given_up():
    async with (
        replica_here(0) as (_, _, first),
        replica_here(1) as (_, _, second),
        client_of(first, second) as client,
    ):
        stream = await client.open("stt", {})
        for number in range(6):
            stream.current.connection.fail("the test broke it")
            await client._sink.until(
                lambda events: len(events) > number or stream.ended  # noqa: B023 - awaited at once
            )
        with pytest.raises(PeerFailedError, match="again and again"):
            await stream.receive()


async def test_a_withdrawn_replica_hands_its_streams_over():
    async with (
        replica_here(0) as (_, _, first),
        replica_here(1) as (new, _, second),
        client_of(first) as client,
    ):
        stream = await client.open("stt", {})
        stream.push_audio(FRAME, RATE)
        client.set_replicas((second,))
        await client._sink.first(StreamReopened)
        stream.flush()
        assert (await final_of(stream)).text == "160 samples"
        assert new.connections == 1


async def test_without_another_replica_the_stream_fails_after_the_wait():
    async with replica_process(0) as (process, replica), client_of(replica) as client:
        client.wait_s = 0.3
        stream = await client.open("stt", {})
        process.kill()
        with pytest.raises(PeerFailedError, match="no replica for engine listener"):
            await stream.receive()
        with pytest.raises(PeerFailedError):
            stream.push_audio(FRAME, RATE)


async def test_an_open_waits_for_the_first_replica():
    async with replica_here() as (_, _, replica), client_of() as client:
        opening = asyncio.create_task(client.open("stt", {}))
        await asyncio.sleep(0)
        client.set_replicas((replica,))
        assert (await opening).info.kind is EngineKind.STT


async def test_an_open_without_any_replica_gives_up():
    async with client_of() as client:
        client.wait_s = 0.05
        with pytest.raises(CapacityError, match="no replica is known"):
            await client.open("stt", {})


async def test_an_engine_that_nobody_has_and_options_that_nobody_knows():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        client.wait_s = 0.2
        with pytest.raises(EngineConfigError, match="none of 1 replicas offers it"):
            await client.open("vad", {})
        with pytest.raises(EngineConfigError, match="unknown option"):
            await client.open("stt", {"colour": "red"})


async def test_a_full_replica_sends_its_caller_to_the_next():
    async with (
        replica_here(0, max_streams=1) as (_, full, first),
        replica_here(1) as (_, free, second),
        client_of(first) as client,
    ):
        await client.open("stt", {})
        client.set_replicas((first, second))
        held = [await client.open("stt", {}) for _ in range(3)]
        assert (full.streams, free.streams) == (1, 3)
        assert len(held) == 3


async def test_a_failing_stream_leaves_its_neighbours_alone():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        bad = await client.open("stt", {"fail_after": 1})
        good = await client.open("stt", {})
        for stream in (bad, good):
            stream.push_audio(FRAME, RATE)
            stream.flush()
        with pytest.raises(EngineError, match="listener failed"):
            await final_of(bad)
        assert (await final_of(good)).text == "160 samples"


async def test_input_of_the_wrong_kind_is_refused_on_the_spot():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        hearing, speaking = await client.open("stt", {}), await client.open("tts", {})
        with pytest.raises(ProtocolError):
            hearing.push_text("words")
        with pytest.raises(ProtocolError):
            speaking.push_audio(FRAME, RATE)
        with pytest.raises(ProtocolError):
            hearing.push_audio(b"\0", RATE)
        hearing.end_input()
        with pytest.raises(StreamClosedError):
            hearing.push_audio(FRAME, RATE)


async def test_closed_streams_and_a_gone_client_free_the_replica():
    log = EventLog()
    async with replica_here(sink=log) as (server, host, replica):
        async with client_of(replica) as client:
            stream = await client.open("stt", {})
            other = await client.open("stt", {})
            await stream.aclose()
            await stream.aclose()
            with pytest.raises(StreamClosedError):
                await stream.receive()
            other.push_audio(FRAME, RATE)
            other.flush()
            await final_of(other)
            assert host.streams == 1
        await log.until(lambda events: events[-1] == StreamsChanged(engine="listener", open=0))
        assert (host.streams, server.connections) == (0, 0)


async def test_a_cancelled_open_leaves_nothing_behind():
    async with replica_here() as (_, host, replica), client_of(replica) as client:
        opening = asyncio.create_task(client.open("stt", {}))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert client.streams == 0
        stream = await client.open("stt", {})
        stream.push_audio(FRAME, RATE)
        stream.end_input()
        await final_of(stream)
        assert host.streams <= 1


async def test_a_reader_that_is_cancelled_loses_nothing():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        stream = await client.open("stt", {})
        reader = asyncio.create_task(stream.receive())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        stream.push_audio(FRAME, RATE)
        stream.flush()
        assert (await final_of(stream)).text == "160 samples"


async def test_garbage_on_the_port_disturbs_nobody():
    async with replica_here() as (_, _, replica), client_of(replica) as client:
        stream = await client.open("stt", {})
        host, port = replica.address.split(":")
        half_open = socket.create_connection((host, int(port)))
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"PRI * HTTP/2.0\r\n\r\n"):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            writer.close()
        stream.push_audio(FRAME, RATE)
        stream.flush()
        assert (await final_of(stream)).text == "160 samples"
        half_open.close()


async def test_a_token_is_needed_where_one_is_set():
    async with replica_here(token="right") as (_, _, replica):
        async with client_of(replica, token="right") as client:
            await client.open("stt", {})
        async with client_of(replica, token="wrong") as client:
            client.wait_s = 0.2
            with pytest.raises(CapacityError, match="UNAUTHENTICATED"):
                await client.open("stt", {})


async def test_a_closing_replica_is_left_for_another():
    async with (
        replica_here(0) as (closing, _, first),
        replica_here(1) as (_, _, second),
        client_of(first) as client,
    ):
        stream = await client.open("stt", {})
        stream.push_audio(FRAME, RATE)
        client.set_replicas((first, second))
        await closing.aclose()
        await client._sink.first(StreamReopened)
        stream.flush()
        assert (await final_of(stream)).text == "160 samples"


async def test_an_unreachable_replica_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound and not listening: refuses.
        nobody = replica_at(taken.getsockname()[1], number=0)
        async with replica_here(1) as (_, _, replica), client_of(nobody, replica) as client:
            stream = await client.open("listener", {})
            assert stream.info.name == "listener"


async def test_the_streams_of_a_call_stay_together():
    calls = iter(["one", "one", "one", "two", "two", "two"])
    async with (
        replica_here(0) as (_, one, first),
        replica_here(1) as (_, two, second),
        client_of(first, second, call_of=lambda: next(calls)) as client,
    ):
        streams = [await client.open(kind, {}) for kind in ("stt", "tts", "stt") * 2]
        assert len({stream.served_by for stream in streams[:3]}) == 1
        assert len({stream.served_by for stream in streams[3:]}) == 1
        assert (one.streams, two.streams) == (3, 3)
