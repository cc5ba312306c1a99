"""Whisper and the turn detector in a replica, heard over real gRPC, and moved to another one."""

from contextlib import asynccontextmanager

import pytest
from livekit.local_inference import EOT, EOT_MAX_SAMPLES

from benchmarks.models import tiny_whisper
from tests.fakes.event_log import EventLog
from tests.fakes.replica_process import replica_here
from tests.fakes.speech import RATE, frames, spoken
from voxray.base.ids import HostId
from voxray.base.timing import SystemClock
from voxray.pipelines.audio import samples_to_pcm
from voxray.pipelines.engines.base import SpeechEdgeOutput, TranscriptOutput, TurnOutput
from voxray.pipelines.engines.turn_eot import TurnEngine
from voxray.pipelines.engines.whisper_stt import WhisperEngine
from voxray.pipelines.remote_client import RemoteInferenceClient

WORDS = ["when", "does", "it", "leave?"]
SENTENCE = spoken("When does the next train to Berlin leave?")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_whisper.make(tmp_path_factory.mktemp("whisper") / "m", words=WORDS))


@asynccontextmanager
async def client_of(*replicas):
    client = RemoteInferenceClient(
        host_id=HostId("cafe0001"),
        node="node",
        coalesce_ms=10.0,
        sink=EventLog(),
        clock=SystemClock(),
    )
    client.set_replicas(replicas)
    try:
        yield client
    finally:
        await client.aclose()


def engines(model):
    return [WhisperEngine(model=model, device="cpu", interim_share=0.0), TurnEngine(threads=1)]


def say(stream, samples):
    for frame in frames(samples):
        stream.push_audio(samples_to_pcm(frame), RATE)


async def test_words_come_with_their_times(model):
    async with (
        replica_here(hosted=engines(model)) as (_, _, replica),
        client_of(replica) as client,
    ):
        stream = await client.open("whisper", {"word_times": True})
        say(stream, SENTENCE)
        stream.flush()
        start, final, end = [await stream.receive() for _ in range(3)]
        assert isinstance(start, SpeechEdgeOutput)
        assert isinstance(final, TranscriptOutput)
        assert isinstance(end, SpeechEdgeOutput)
        assert [word.text for word in final.words] == WORDS
        assert stream.info.model == "m"


async def test_a_question_about_the_turn_moves_to_another_replica(model):
    async with (
        replica_here(1, hosted=engines(model)) as (_, _, first),
        replica_here(2, hosted=engines(model)) as (_, _, second),
        client_of(first) as client,
    ):
        stream = await client.open("turn", {})
        say(stream, SENTENCE[:RATE])
        stream.flush(discard=True)
        say(stream, SENTENCE[RATE : 2 * RATE])
        stream.flush()
        before = await stream.receive()
        assert before == TurnOutput(answer(SENTENCE[RATE : 2 * RATE]), 2.0, before.inference_s)

        say(stream, SENTENCE[2 * RATE :])
        stream.flush()
        client.set_replicas((second,))
        after = await stream.receive()
        assert after.probability == answer(SENTENCE[-EOT_MAX_SAMPLES:])
        assert after.at_s == pytest.approx(len(SENTENCE) / RATE)
        await stream.aclose()


def answer(samples):
    """What the model says, as it comes over the wire."""
    with EOT() as native:
        return pytest.approx(native.predict(samples), abs=1e-6)
