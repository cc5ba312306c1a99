import asyncio
import threading
from collections.abc import Iterator

import pytest

from voxray.base.errors import (
    CapacityError,
    EngineConfigError,
    EngineError,
    PeerFailedError,
    ProtocolError,
    StreamClosedError,
    StreamFinishedError,
)
from voxray.base.timing import SystemClock
from voxray.observability.events import Event, FramesDropped
from voxray.pipelines import embedded_stream
from voxray.pipelines.embedded import (
    EmbeddedEngines,
    EmbeddedInferenceClient,
    configured_settings,
)
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.base import EngineKind, SpeechOutput, TranscriptOutput
from voxray.pipelines.engines.scripted import POISON, ScriptedEngine
from voxray.pipelines.streams import InferenceStream


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


class World:
    """Embedded engines that are all scripted."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.engine = ScriptedEngine()
        self.asked: list[str] = []
        self.max_streams = 8
        self.engines = EmbeddedEngines(self.sink, SystemClock(), hosts=self._host)

    def client(self) -> EmbeddedInferenceClient:
        return EmbeddedInferenceClient(self.engines)

    def _host(self, name: str) -> EngineHost:
        self.asked.append(name)
        if name != "pocketsphinx":
            raise EngineConfigError(f"no engine is called {name!r}")
        return EngineHost(
            [self.engine],
            max_streams=self.max_streams,
            latency_budget_ms=0.0,
            max_batch=8,
            sink=self.sink,
            clock=SystemClock(),
        )


@pytest.fixture
def world() -> Iterator[World]:
    threads = threading.active_count()
    world = World()
    yield world
    world.engines.close()
    assert world.engine.closed == world.engine.loaded
    # One of a test before may have ended meanwhile.
    assert threading.active_count() <= threads


async def rest(stream: InferenceStream) -> list[str]:
    texts = []
    try:
        while True:
            output = await stream.receive()
            assert isinstance(output, TranscriptOutput)
            texts.append(output.text)
    except StreamFinishedError:
        return texts


async def test_a_stream_goes_there_and_back(world: World) -> None:
    client = world.client()
    stream = await client.open("stt", {})
    stream.push_audio(bytes(320), 16_000)
    stream.push_audio(bytes(640), 32_000)
    stream.flush()
    stream.push_audio(bytes(320), 16_000)
    stream.end_input()
    stream.end_input()

    assert await rest(stream) == ["320 samples", "160 samples"]
    assert stream.info.kind is EngineKind.STT
    await client.aclose()


async def test_an_engine_is_loaded_once_and_only_if_asked_for(world: World) -> None:
    assert world.asked == []
    clients = [world.client(), world.client()]
    await asyncio.gather(*(client.open("stt", {}) for client in clients for _ in range(3)))

    assert world.asked == ["pocketsphinx"]
    assert world.engine.loaded == 1
    for client in clients:
        await client.aclose()
    assert world.engine.closed == 0


async def test_warming_loads_before_the_first_stream(world: World) -> None:
    world.engines.warm("stt")
    client = world.client()
    await client.open("stt", {})

    assert world.engine.loaded == 1
    await client.aclose()


async def test_what_is_missing_is_told_to_who_asks(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.engines.warm("whisper")
    with pytest.raises(EngineConfigError, match="whisper"):
        await world.client().open("whisper", {})
    assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_engine_that_failed_to_load_is_tried_again(world: World) -> None:
    world.engine.load_error = EngineConfigError("the model is missing")
    client = world.client()
    with pytest.raises(EngineConfigError, match="model is missing"):
        await client.open("stt", {})
    world.engine.load_error = None
    world.engine = ScriptedEngine()

    await client.open("stt", {})
    await client.aclose()


async def test_wrong_options_and_too_many_streams_are_refused(world: World) -> None:
    world.max_streams = 1
    client = world.client()
    with pytest.raises(EngineConfigError, match="unknown option"):
        await client.open("stt", {"nonsense": 1})
    stream = await client.open("stt", {})
    with pytest.raises(CapacityError):
        await client.open("stt", {})
    await stream.aclose()
    # The place is free again, once the engines' loop has heard of it.
    await client.open("stt", {})
    await client.aclose()


async def test_a_poisoned_stream_fails_alone(world: World) -> None:
    world.engine.kind = EngineKind.TTS
    client = world.client()
    bad, good = await client.open("stt", {}), await client.open("stt", {})
    bad.push_text(POISON)
    good.push_text("hello")
    good.end_input()

    with pytest.raises(EngineError):
        await bad.receive()
    assert isinstance(await good.receive(), SpeechOutput)
    with pytest.raises(StreamFinishedError):
        await good.receive()
    with pytest.raises(StreamClosedError):
        bad.push_text("more")
    await client.aclose()


async def test_a_closed_stream_takes_and_gives_nothing(world: World) -> None:
    client = world.client()
    stream = await client.open("stt", {"interim": True})
    await stream.aclose()
    await stream.aclose()
    stream.end_input()

    with pytest.raises(StreamClosedError):
        stream.push_audio(bytes(320), 16_000)
    with pytest.raises(StreamClosedError):
        await stream.receive()
    ended = await client.open("stt", {})
    ended.end_input()
    with pytest.raises(StreamFinishedError):
        ended.flush()
    await client.aclose()


async def test_a_closed_client_ends_its_streams_and_opens_none(world: World) -> None:
    mine, other = world.client(), world.client()
    stream, neighbour = await mine.open("stt", {}), await other.open("stt", {})
    await mine.aclose()

    with pytest.raises(StreamClosedError):
        await stream.receive()
    with pytest.raises(StreamClosedError):
        await mine.open("stt", {})
    neighbour.push_audio(bytes(320), 16_000)
    neighbour.end_input()
    assert await rest(neighbour) == ["160 samples"]
    await other.aclose()


async def test_closed_engines_end_all_streams(world: World) -> None:
    client = world.client()
    stream = await client.open("stt", {})
    await asyncio.to_thread(world.engines.close)
    world.engines.close()

    with pytest.raises(StreamClosedError):
        await stream.receive()
    with pytest.raises(StreamClosedError):
        stream.push_audio(bytes(320), 16_000)
    with pytest.raises(StreamClosedError):
        await client.open("stt", {})
    await client.aclose()


async def test_wrong_input_is_refused_where_it_is_pushed(world: World) -> None:
    client = world.client()
    stream = await client.open("stt", {})
    with pytest.raises(ProtocolError, match="3 bytes"):
        stream.push_audio(bytes(3), 16_000)
    with pytest.raises(ProtocolError, match="1 Hz"):
        stream.push_audio(bytes(2), 1)
    with pytest.raises(ProtocolError, match="takes audio"):
        stream.push_text("hello")
    world.engine.kind = EngineKind.TTS
    with pytest.raises(ProtocolError, match="takes text"):
        stream.push_audio(bytes(2), 16_000)
    await client.aclose()


async def test_a_recording_in_one_go_is_not_cut(world: World) -> None:
    world.engine.gate = threading.Event()
    client = world.client()
    stream = await client.open("stt", {})
    for _ in range(5_000):
        stream.push_audio(bytes(640), 16_000)
    stream.end_input()
    world.engine.gate.set()

    assert await rest(stream) == [f"{5_000 * 320} samples"]
    assert not any(isinstance(event, FramesDropped) for event in world.sink.events)
    await client.aclose()


async def test_beyond_the_bound_the_oldest_audio_is_dropped_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_stream, "_BACKLOG_S", 1.0)
    world.engine.gate = threading.Event()
    client = world.client()
    stream = await client.open("stt", {})
    for _ in range(512):
        stream.push_audio(bytes(640), 16_000)
    stream.end_input()
    # Opening asks the engines' loop, which has then taken what came before.
    await client.open("stt", {})
    world.engine.gate.set()

    (text,) = await rest(stream)
    dropped = sum(event.frames for event in world.sink.events if isinstance(event, FramesDropped))
    assert dropped > 100
    assert text == f"{(512 - dropped) * 320} samples"
    await client.aclose()


async def test_results_that_nobody_fetches_end_the_stream(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_stream, "_OUTPUT_LIMIT", 2)
    client = world.client()
    stream = await client.open("stt", {"interim": True})
    other = await client.open("stt", {"interim": True})
    for _ in range(3):
        stream.push_audio(bytes(320), 16_000)
    # Streams take turns: what came later of the other one is told after all of the first.
    for _ in range(5):
        other.push_audio(bytes(320), 16_000)
        await other.receive()

    await stream.receive()
    await stream.receive()
    with pytest.raises(PeerFailedError):
        await stream.receive()
    await client.aclose()


def test_two_loops_share_an_engine(world: World) -> None:
    both = threading.Barrier(2)
    told: list[list[str]] = []

    async def call() -> None:
        client = world.client()
        stream = await client.open("stt", {})
        await asyncio.to_thread(both.wait)
        stream.push_audio(bytes(320), 16_000)
        stream.end_input()
        told.append(await rest(stream))
        await client.aclose()

    threads = [threading.Thread(target=lambda: asyncio.run(call())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told == [["160 samples"], ["160 samples"]]
    assert world.engine.loaded == 1


def test_a_loop_that_ends_without_closing_leaves_no_stream(world: World) -> None:
    world.engine.gate = threading.Event()
    world.max_streams = 1

    async def leave() -> None:
        stream = await world.client().open("stt", {"interim": True})
        stream.push_audio(bytes(320), 16_000)

    async def come() -> None:
        client = world.client()
        while True:
            try:
                await client.open("stt", {})
            except CapacityError:
                await asyncio.sleep(0)
            else:
                return await client.aclose()

    asyncio.run(leave())
    world.engine.gate.set()
    asyncio.run(come())


async def test_who_gives_up_opening_leaves_no_stream(world: World) -> None:
    world.max_streams = 1
    client = world.client()
    opening = asyncio.create_task(client.open("stt", {}))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    stream = await client.open("stt", {})
    await stream.aclose()
    await client.aclose()


def test_an_engine_is_loaded_with_what_the_settings_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configured_settings("ears") == {}
    (tmp_path / "voxray.yaml").write_text(
        "inference:\n"
        "  groups:\n"
        "    - {name: a, engines: [other]}\n"
        "    - {name: b, engines: [ears, other], engine_settings: {ears: {model: /models/a}}}\n"
    )
    assert configured_settings("ears") == {"model": "/models/a"}
    assert configured_settings("other") == {}


def test_settings_that_cannot_be_read_leave_an_engine_without_its_own(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voxray.yaml").write_text("inference: [")
    assert configured_settings("ears") == {}
    assert "the settings can't be read" in caplog.text
