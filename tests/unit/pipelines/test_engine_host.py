"""The engine host with a scripted engine: streams, batches, ends, isolation and clean-up."""

import asyncio
import threading

import numpy as np
import pytest

from tests.fakes.event_log import EventLog
from voxray.base.errors import (
    CapacityError,
    EngineConfigError,
    EngineError,
    ProtocolError,
    StreamClosedError,
    StreamFinishedError,
)
from voxray.base.timing import SystemClock
from voxray.observability.events import BatchDone, FramesDropped, StreamFailed, StreamsChanged
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    EngineKind,
    FlushInput,
    TextInput,
)
from voxray.pipelines.engines.scripted import POISON, ScriptedEngine


class Listener:
    """What one stream said, and its end."""

    def __init__(self, host, engine="scripted", **options):
        self.outputs = []
        self.progress = []
        self.ends = []
        self.ended = asyncio.Event()
        self.stream = host.open(
            engine,
            options,
            on_output=self.outputs.append,
            on_end=self._end,
            on_progress=self.progress.append,
        )

    def _end(self, error):
        self.ends.append(error)
        self.ended.set()

    async def end(self):
        await self.ended.wait()
        (error,) = self.ends
        return error


def audio(count=160):
    return AudioInput(np.zeros(count, np.int16))


class Hosts:
    def __init__(self):
        self.log = EventLog()
        self.running = []

    async def start(self, engine, *, max_streams=64, latency_budget_ms=0.0, clock=None):
        host = EngineHost(
            [engine] if isinstance(engine, ScriptedEngine) else engine,
            max_streams=max_streams,
            latency_budget_ms=latency_budget_ms,
            max_batch=64,
            sink=self.log,
            clock=clock or SystemClock(),
        )
        self.running.append(host)
        await host.start()
        return host


@pytest.fixture
async def hosts():
    made = Hosts()
    yield made
    for host in made.running:
        await host.aclose()


@pytest.fixture
def gate():
    made = threading.Event()
    yield made
    made.set()


async def test_a_stream_says_everything_and_then_ends(hosts):
    host = await hosts.start(ScriptedEngine())
    listener = Listener(host, interim=True)
    assert listener.stream.info.name == "scripted"
    for _ in range(5):
        assert listener.stream.push(audio())
    listener.stream.push(FlushInput())
    listener.stream.push(audio(100))
    listener.stream.push(EndOfInput())
    assert isinstance(await listener.end(), StreamFinishedError)
    texts = [(output.text, output.final) for output in listener.outputs]
    assert texts[4:] == [
        ("800 samples", False),
        ("800 samples", True),
        ("100 samples", False),
        ("100 samples", True),
    ]
    assert listener.progress[-1] == listener.stream.accepted == listener.stream.consumed == 8
    assert listener.stream.pending == 0
    assert host.streams == 0


async def test_callbacks_come_on_the_loops_thread_and_never_from_within_push(hosts):
    host = await hosts.start(ScriptedEngine())
    threads = []
    ended = asyncio.Event()

    def on_end(_):
        threads.append(threading.get_ident())
        ended.set()

    stream = host.open(
        "stt", {}, on_output=lambda _: threads.append(threading.get_ident()), on_end=on_end
    )
    stream.push(audio())
    stream.push(EndOfInput())
    assert threads == []
    await ended.wait()
    assert threads == [threading.get_ident()] * 2


async def test_pcm_is_resampled_to_the_engines_rate(hosts):
    host = await hosts.start(ScriptedEngine())
    listener = Listener(host)
    for rate in (24_000, 8_000, 16_000):
        for _ in range(50):
            assert listener.stream.push_pcm(bytes(2 * rate // 50), rate)
    listener.stream.push(EndOfInput())
    await listener.end()
    assert listener.outputs[-1].text == "48000 samples"


async def test_broken_audio_is_refused_and_the_stream_lives_on(hosts):
    host = await hosts.start(ScriptedEngine())
    listener = Listener(host)
    with pytest.raises(ProtocolError, match="3 bytes"):
        listener.stream.push_pcm(b"abc", 16_000)
    with pytest.raises(ProtocolError, match="1 Hz"):
        listener.stream.push_pcm(b"ab", 1)
    with pytest.raises(ProtocolError, match="takes audio"):
        listener.stream.push(TextInput("hello"))
    listener.stream.push(EndOfInput())
    assert isinstance(await listener.end(), StreamFinishedError)


async def test_an_engine_that_speaks_takes_no_audio(hosts):
    host = await hosts.start(ScriptedEngine(kind=EngineKind.TTS))
    listener = Listener(host, "tts")
    with pytest.raises(ProtocolError, match="takes text"):
        listener.stream.push_pcm(b"ab", 16_000)


@pytest.mark.parametrize("falls_over", [False, True])
async def test_a_poisoned_stream_leaves_its_neighbours_whole(hosts, gate, falls_over):
    engine = ScriptedEngine(kind=EngineKind.TTS, gate=gate, poison_fails_batch=falls_over)
    host = await hosts.start(engine)
    listeners = [Listener(host) for _ in range(8)]
    for number, listener in enumerate(listeners):
        listener.stream.push(TextInput(POISON if number == 3 else "x" * (number + 1)))
        listener.stream.push(EndOfInput())
    gate.set()
    for number, listener in enumerate(listeners):
        end = await listener.end()
        if number == 3:
            assert isinstance(end, EngineError)
            assert POISON not in str(end)
            assert listener.outputs == []
        else:
            assert isinstance(end, StreamFinishedError)
            assert [len(output.samples) for output in listener.outputs] == [number + 1]
    assert engine.batches[0] == 8
    assert hosts.log.of(StreamFailed) == [StreamFailed(engine="scripted", code="engine")]
    assert [session.closed for session in engine.sessions] == [1] * 8


async def test_streams_that_talk_at_once_share_a_batch(hosts, gate):
    engine = ScriptedEngine(gate=gate)
    host = await hosts.start(engine)
    listeners = [Listener(host) for _ in range(8)]
    for _ in range(3):
        for listener in listeners:
            listener.stream.push(audio())
    gate.set()
    for listener in listeners:
        listener.stream.push(EndOfInput())
        await listener.end()
    assert engine.batches[0] == 8
    done = hosts.log.of(BatchDone)
    assert done[0].size == 8
    assert all(event.queue_s >= 0 and event.service_s >= 0 for event in done)


class ManualClock(SystemClock):
    """Stands still until it is moved."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


async def test_a_batch_waits_for_company_that_is_expected(hosts):
    """Both streams are known to come every 20 ms; the budget is a minute of real time away."""
    engine = ScriptedEngine()
    clock = ManualClock()
    host = await hosts.start(engine, latency_budget_ms=60_000.0, clock=clock)
    first, second = Listener(host), Listener(host)
    for _ in range(3):
        first.stream.push(audio())
        second.stream.push(audio())
        await hosts.log.until(lambda _: first.stream.pending == second.stream.pending == 0)
        clock.now_s += 0.02
    before = len(engine.batches)
    first.stream.push(audio())
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(engine.batches) == before
    second.stream.push(audio())
    first.stream.push(EndOfInput())
    await first.end()
    assert engine.batches[before] == 2


async def test_a_full_queue_pushes_back_counts_and_keeps_the_end(hosts, gate):
    host = await hosts.start(ScriptedEngine(gate=gate))
    listener = Listener(host)
    taken = 0
    while listener.stream.push(audio(1)):
        taken += 1
        assert taken <= 512
    assert listener.stream.pending == taken
    assert hosts.log.of(FramesDropped) == [FramesDropped(where="engine", frames=1)]
    for _ in range(1000):
        assert listener.stream.push(FlushInput())
    assert listener.stream.pending == taken + 1
    listener.stream.push(EndOfInput())
    gate.set()
    assert isinstance(await listener.end(), StreamFinishedError)
    assert [output.text for output in listener.outputs] == [f"{taken} samples"]


async def test_what_is_queued_for_a_closed_stream_never_runs(hosts, gate):
    engine = ScriptedEngine(gate=gate)
    host = await hosts.start(engine)
    busy, abandoned = Listener(host, interim=True), Listener(host)
    running = threading.Event()
    engine.on_batch = lambda _: running.set()
    busy.stream.push(audio())
    await asyncio.to_thread(running.wait)
    abandoned.stream.push(audio())
    abandoned.stream.close()
    abandoned.stream.close()
    busy.stream.close()  # Its work is at the engine: it is told, and what it says is dropped.
    assert host.streams == 0
    last = Listener(host)
    last.stream.push(audio())
    last.stream.push(EndOfInput())
    gate.set()
    await last.end()
    assert [session.inputs for session in engine.sessions] == [0, 0, 2]
    assert [session.closed for session in engine.sessions] == [1, 1, 1]
    assert busy.outputs == busy.ends == abandoned.ends == []
    with pytest.raises(StreamClosedError):
        busy.stream.push(audio())


async def test_nothing_is_taken_after_the_end_of_input(hosts):
    host = await hosts.start(ScriptedEngine())
    listener = Listener(host)
    listener.stream.push(EndOfInput())
    with pytest.raises(StreamClosedError, match="end of input"):
        listener.stream.push(audio())
    await listener.end()
    with pytest.raises(StreamFinishedError):
        listener.stream.push(audio())


async def test_a_failed_stream_tells_its_error_to_who_pushes_on(hosts):
    host = await hosts.start(ScriptedEngine())
    listener = Listener(host, fail_after=1)
    listener.stream.push(audio())
    listener.stream.push(audio())
    end = await listener.end()
    with pytest.raises(EngineError) as raised:
        listener.stream.push(audio())
    assert raised.value is end
    assert isinstance(end.__cause__, ValueError)


async def test_a_listener_that_raises_harms_nobody(hosts, caplog):
    host = await hosts.start(ScriptedEngine())

    def broken(_):
        raise ValueError("the listener's own fault")

    stream = host.open("scripted", {"interim": True}, on_output=broken, on_end=broken)
    listener = Listener(host)
    for pushed in (stream, listener.stream):
        pushed.push(audio())
        pushed.push(EndOfInput())
    assert isinstance(await listener.end(), StreamFinishedError)
    assert "listener failed" in caplog.text


async def test_the_limit_of_streams_refuses_and_frees(hosts):
    host = await hosts.start(ScriptedEngine(), max_streams=2)
    first = Listener(host)
    Listener(host)
    with pytest.raises(CapacityError, match="all 2"):
        Listener(host)
    assert hosts.log.of(StreamFailed) == [StreamFailed(engine="scripted", code="limit")]
    first.stream.close()
    Listener(host)
    assert [event.open for event in hosts.log.of(StreamsChanged)] == [1, 2, 1, 2]


async def test_a_draining_host_opens_no_stream_and_keeps_those_it_has(hosts):
    host = await hosts.start(ScriptedEngine(), max_streams=2)
    listener = Listener(host)
    host.drain()
    with pytest.raises(CapacityError, match="the replica is closing"):
        Listener(host)
    assert (host.draining, host.streams, host.max_streams) == (True, 1, 0)
    for item in (audio(), EndOfInput()):
        listener.stream.push(item)
    assert isinstance(await listener.end(), StreamFinishedError)


async def test_wrong_names_and_options_are_refused_with_what_there_is(hosts):
    host = await hosts.start(ScriptedEngine())
    with pytest.raises(EngineConfigError, match=r"no engine 'tts'.*scripted \(stt\)"):
        Listener(host, "tts")
    with pytest.raises(EngineConfigError, match="unknown option: colour"):
        Listener(host, colour="red")
    assert hosts.log.of(StreamFailed) == [StreamFailed(engine="scripted", code="config")]
    assert host.streams == 0


async def test_closing_the_host_ends_streams_and_threads(hosts, gate):
    engine = ScriptedEngine(gate=gate)
    host = await hosts.start(engine)
    assert any(thread.name == "engine-scripted" for thread in threading.enumerate())
    listener = Listener(host)
    listener.stream.push(audio())
    closing = asyncio.create_task(host.aclose())
    assert isinstance(await listener.end(), StreamClosedError)
    gate.set()
    await closing
    await host.aclose()
    assert engine.closed == 1
    assert engine.sessions[0].closed == 1
    assert not any(thread.name == "engine-scripted" for thread in threading.enumerate())
    with pytest.raises(CapacityError, match="closing"):
        Listener(host)


async def test_close_is_safe_before_start():
    host = EngineHost(
        [ScriptedEngine()],
        max_streams=1,
        latency_budget_ms=1,
        max_batch=1,
        sink=EventLog(),
        clock=SystemClock(),
    )
    await host.aclose()
    assert host.infos() == ()
    assert host.queue_s == 0


async def test_one_engine_that_does_not_load_fails_the_start_and_stops_the_others(hosts):
    whole = ScriptedEngine(name="whole")
    broken = ScriptedEngine(name="broken", load_error=OSError("no such model"))
    before = set(threading.enumerate())
    with pytest.raises(EngineConfigError, match="broken can't be loaded: OSError: no such model"):
        await hosts.start([whole, broken])
    assert whole.closed == 1
    began = set(threading.enumerate()) - before
    assert not any(thread.name.startswith("engine-") for thread in began)


async def test_unknown_engines_fail_before_anything_is_loaded(hosts):
    with pytest.raises(EngineConfigError, match=r"no engine is called 'whisperer'.*silero"):
        await hosts.start(["silero", "whisperer"])


async def test_two_engines_of_one_name_are_refused(hosts):
    with pytest.raises(EngineConfigError, match="two engines are called scripted"):
        await hosts.start([ScriptedEngine(), ScriptedEngine()])
