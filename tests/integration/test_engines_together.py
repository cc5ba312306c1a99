"""The engines in the box behind one host: six calls talk at once, and nothing is mixed up."""

import asyncio

import numpy as np
import pytest

from tests.fakes.event_log import EventLog
from tests.fakes.speech import RATE, frames, spoken
from voxray.base.errors import StreamFinishedError
from voxray.base.timing import SystemClock
from voxray.observability.events import BatchDone
from voxray.pipelines.audio import StreamResampler
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.base import (
    EndOfInput,
    ProbabilityOutput,
    SpeechOutput,
    TextInput,
    TranscriptOutput,
)

GRAMMAR = """#JSGF V1.0; grammar timetable;
public <question> = (when does | which platform does) the (next | last) train to
  (Berlin | Chicago | Munich | Paris | Vienna | London) leave;
"""
CITIES = ["Berlin", "Chicago", "Munich", "Paris", "Vienna", "London"]
QUESTIONS = [f"when does the next train to {city} leave" for city in CITIES]


class Heard:
    """What one stream gave, and when it ended."""

    def __init__(self, host, engine, **options):
        self.outputs = []
        self.end = asyncio.get_running_loop().create_future()
        self.stream = host.open(
            engine, options, on_output=self.outputs.append, on_end=self.end.set_result
        )

    async def finish(self):
        self.stream.push(EndOfInput())
        assert isinstance(await self.end, StreamFinishedError)
        return self.outputs


@pytest.fixture
async def log():
    return EventLog()


@pytest.fixture
async def host(log):
    made = EngineHost(
        ["silero", "pocketsphinx", "espeak"],
        max_streams=64,
        latency_budget_ms=8.0,
        max_batch=64,
        sink=log,
        clock=SystemClock(),
    )
    await made.start()
    yield made
    await made.aclose()


async def test_six_calls_at_once_are_all_heard_right_in_shared_batches(host, log):
    ears = [Heard(host, "stt", grammar=GRAMMAR) for _ in QUESTIONS]
    detectors = [Heard(host, "vad") for _ in QUESTIONS]
    calls = [frames(spoken(question)) for question in QUESTIONS]
    for number in range(max(map(len, calls))):
        for ear, detector, call in zip(ears, detectors, calls, strict=True):
            if number < len(call):
                pcm = call[number].tobytes()
                assert ear.stream.push_pcm(pcm, RATE)
                assert detector.stream.push_pcm(pcm, RATE)
        await asyncio.sleep(0)
    heard = [
        [out.text for out in await ear.finish() if isinstance(out, TranscriptOutput) and out.final]
        for ear in ears
    ]
    assert heard == [[question] for question in QUESTIONS]
    for detector, call in zip(detectors, calls, strict=True):
        windows = await detector.finish()
        samples = sum(map(len, call))
        assert [out.end_sample for out in windows] == list(range(512, samples + 1, 512))
        assert max(out.probability for out in windows if isinstance(out, ProbabilityOutput)) > 0.9
    for engine in ("silero", "pocketsphinx"):
        sizes = [event.size for event in log.of(BatchDone) if event.engine == engine]
        assert max(sizes) == 6
    assert host.streams == 0


async def test_what_the_host_says_the_host_understands(host):
    voice = Heard(host, "tts", rate=150)
    voice.stream.push(TextInput(QUESTIONS[3]))
    said = [out.samples for out in await voice.finish() if isinstance(out, SpeechOutput)]
    assert len(said) > 10
    resampler = StreamResampler(voice.stream.info.sample_rate, RATE)
    speech = np.concatenate([np.zeros(8000, np.int16), *map(resampler.push, said)])
    ear = Heard(host, "stt", grammar=GRAMMAR)
    for frame in frames(speech):
        ear.stream.push_pcm(frame.tobytes(), RATE)
    finals = [out for out in await ear.finish() if isinstance(out, TranscriptOutput) and out.final]
    assert [out.text for out in finals] == [QUESTIONS[3]]
