"""The Edge engine in a host, against a fake of the service over a real websocket."""

import asyncio
import socket

import numpy as np
import pytest

from tests.fakes.edge_service import edge_service, lead, mp3, spoken
from tests.fakes.event_log import EventLog
from voxray.base.errors import EngineConfigError, EngineError, StreamFinishedError
from voxray.base.timing import SystemClock
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.base import EndOfInput, SpeechOutput, TextInput
from voxray.pipelines.engines.edge_tts import SAMPLE_RATE, EdgeEngine
from voxray.pipelines.engines.mp3 import Mp3Decoder

pytest.importorskip("edge_tts", reason="the extra 'edge' is not installed")


class Listener:
    def __init__(self, host, **options):
        self.chunks = []
        self.heard, self.ended = asyncio.Event(), asyncio.Event()
        self.end = None
        self.stream = host.open("edge", options, on_output=self._output, on_end=self._end)

    def say(self, *texts):
        for text in texts:
            self.stream.push(TextInput(text))
        self.stream.push(EndOfInput())

    def _output(self, output):
        assert isinstance(output, SpeechOutput)
        self.chunks.append(output.samples)
        self.heard.set()

    def _end(self, end):
        self.end = end
        self.ended.set()

    async def whole(self):
        await self.ended.wait()
        assert isinstance(self.end, StreamFinishedError), self.end
        return np.concatenate(self.chunks) if self.chunks else np.empty(0, np.int16)


@pytest.fixture
async def start():
    hosts = []

    async def make(**settings):
        host = EngineHost(
            [EdgeEngine(**settings)],
            max_streams=64,
            latency_budget_ms=0,
            max_batch=64,
            sink=EventLog(),
            clock=SystemClock(),
        )
        hosts.append(host)
        await host.start()
        return host

    yield make
    for host in hosts:
        await host.aclose()


@pytest.fixture
async def service(monkeypatch):
    async with edge_service(monkeypatch) as running:
        yield running


async def test_a_text_is_asked_for_as_the_options_say_and_heard(service, start):
    listener = Listener(await start(), voice="de-DE-KatjaNeural", rate_percent=10, pitch_hz=-5)
    listener.say("Grüß dich & <hallo>.")
    samples = await listener.whole()
    assert len(samples) / SAMPLE_RATE == pytest.approx(1.0, abs=0.1)
    assert 6000 < np.abs(samples).max() < 10_000
    (ssml,) = service.requests
    assert "(de-DE, KatjaNeural)" in ssml
    assert "pitch='-5Hz' rate='+10%' volume='+0%'" in ssml
    assert spoken(ssml) == "Grüß dich &amp; &lt;hallo&gt;."


async def test_audio_is_heard_before_the_service_has_sent_it_all(service, start):
    service.hold = asyncio.Event()
    listener = Listener(await start())
    listener.say("hello")
    await listener.heard.wait()
    await service.held.wait()
    assert listener.end is None
    service.hold.set()
    assert len(await listener.whole()) > 0.9 * SAMPLE_RATE


async def test_texts_of_a_stream_are_spoken_in_order(service, start):
    listener = Listener(await start())
    listener.say("one", "two", "three")
    samples = await listener.whole()
    assert [spoken(ssml) for ssml in service.requests] == ["one", "two", "three"]
    assert len(samples) / SAMPLE_RATE == pytest.approx(3.0, abs=0.3)
    assert service.most_open == 1


async def test_streams_do_not_wait_for_each_other(service, start):
    service.hold = asyncio.Event()
    host = await start()
    first = Listener(host)
    first.say("slow")
    await service.held.wait()
    others = [Listener(host) for _ in range(20)]
    for listener in others:
        # One after the other, so they are not of one batch.
        listener.say("also")
        await listener.heard.wait()
    assert service.most_open == 21
    service.hold.set()
    for listener in (first, *others):
        assert len(await listener.whole()) > 0.9 * SAMPLE_RATE


async def test_a_closed_stream_hangs_up(service, start):
    service.hold = asyncio.Event()
    host = await start()
    listener, other = Listener(host), Listener(host)
    listener.say("never mind")
    await service.held.wait()
    listener.stream.close()
    await service.ended.wait()
    assert service.open == 0
    assert host.streams == 1
    service.hold = None
    other.say("hello")
    assert len(await other.whole())


async def test_closing_the_host_hangs_up(service, start):
    service.hold = asyncio.Event()
    host = await start()
    listener = Listener(host)
    listener.say("never mind")
    await service.held.wait()
    await host.aclose()
    await service.ended.wait()
    await host.aclose()


async def failure(listener):
    listener.say("hello")
    await listener.ended.wait()
    assert isinstance(listener.end, EngineError)
    assert not listener.end.retryable
    return str(listener.end)


async def test_offline_is_said_clearly_and_at_once(start, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    lead(monkeypatch, f"ws://127.0.0.1:{port}")
    assert "can't be reached (ClientConnectorError): is this machine offline?" in await failure(
        Listener(await start())
    )


async def test_a_name_that_does_not_resolve_is_offline_too(start, monkeypatch):
    lead(monkeypatch, "ws://speech.invalid")
    assert "is this machine offline?" in await failure(Listener(await start()))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("refuse", "the service refused with 503"),
        ("break", "gave no audio for the voice en-US-EmmaMultilingualNeural"),
        ("nothing", "gave no audio for the voice"),
        ("noise", "that is no MP3"),
    ],
)
async def test_what_the_service_does_wrong_is_told_and_the_next_text_is_spoken(
    service, start, answer, message
):
    service.answer = answer
    host = await start()
    assert message in await failure(Listener(host))
    service.answer = "audio"
    listener = Listener(host)
    listener.say("hello")
    assert len(await listener.whole())


async def test_a_service_that_falls_silent_is_left(service, start):
    service.hold = asyncio.Event()
    host = await start(receive_timeout_s=0.05)
    assert "did not answer in time: 5 s to connect, 0.05 s for the next" in await failure(
        Listener(host)
    )


@pytest.mark.parametrize("text", ["", "...", "—"])
async def test_nothing_to_say_asks_nobody(service, start, text):
    listener = Listener(await start())
    listener.say(text)
    assert len(await listener.whole()) == 0
    assert service.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voice": "klingon"}, "'klingon' is no name of a voice"),
        ({"rate_percent": 900}, "rate_percent must be -90 to 200"),
        ({"pitch_hz": 1.5}, "option pitch_hz must be int"),
        ({"speed": 1}, "unknown option: speed"),
    ],
)
async def test_faults_are_named_when_the_stream_opens(start, options, message):
    with pytest.raises(EngineConfigError, match=message):
        Listener(await start(), **options)


@pytest.mark.parametrize("value", [0, -1, True, "5", float("nan")])
def test_settings_are_checked(value):
    with pytest.raises(EngineConfigError, match="receive_timeout_s must be above 0"):
        EdgeEngine(receive_timeout_s=value)


@pytest.mark.parametrize("rate", [24_000, 16_000])
@pytest.mark.parametrize("size", [1, 417, 10_000_000])
def test_mp3_is_decoded_in_pieces_of_any_size(rate, size):
    data = mp3(0.3)
    decoder = Mp3Decoder(rate)
    pieces = [decoder.push(data[start : start + size]) for start in range(0, len(data), size)]
    whole = np.concatenate([*pieces, decoder.flush()])
    assert len(whole) / rate == pytest.approx(0.3, abs=0.1)
    spectrum = np.abs(np.fft.rfft(whole.astype(np.float64)))
    assert np.argmax(spectrum) * rate / len(whole) == pytest.approx(440, abs=10)
