"""What the inference benchmark does to a system: talk in real time, and look at the clock."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
from livekit import rtc
from livekit.agents import inference, vad

import voxray
from voxray.base.errors import StreamFinishedError
from voxray.base.ids import HostId, ReplicaId
from voxray.base.timing import SystemClock
from voxray.loadtest.speech import SPEECH_RATE, speak
from voxray.observability.events import NullSink
from voxray.pipelines.embedded import EmbeddedEngines, EmbeddedInferenceClient
from voxray.pipelines.engines.base import ProbabilityOutput, Samples, TranscriptOutput
from voxray.pipelines.remote_client import RemoteInferenceClient
from voxray.pipelines.routing import Replica
from voxray.pipelines.streams import InferenceClient, InferenceStream

ROOT = Path(__file__).resolve().parent.parent
WINDOW_S = 0.032
SENTENCE = "when does the train to berlin leave"
GRAMMAR = """#JSGF V1.0;
grammar trains;
public <question> = when does the train to (berlin | hamburg | munich) leave;
"""
_PATIENCE_S = 60.0


def talk(seconds: float) -> Samples:
    """Return speech of a length, at the rate that a session hears."""
    sentence = speak("The quick brown fox jumps over the lazy dog and runs on.")
    return np.resize(sentence, int(seconds * SPEECH_RATE))


@dataclass(frozen=True, kw_only=True)
class Service:
    """A replica in another process, and a client here."""

    client: RemoteInferenceClient
    replica: psutil.Process


@asynccontextmanager
async def service(
    *engines: str, core: int = 1, coalesce_ms: float = 10.0, budget_ms: float = 8.0
) -> AsyncIterator[Service]:
    """Start a replica on a core, and connect to it over gRPC; with the default settings."""
    import sys  # noqa: PLC0415 - the interpreter that runs us

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.programs.replica",
        str(core),
        str(budget_ms),
        *engines,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    client = RemoteInferenceClient(
        host_id=HostId("bench001"),
        node="here",
        coalesce_ms=coalesce_ms,
        sink=NullSink(),
        clock=SystemClock(),
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        client.set_replicas(
            (
                Replica(
                    replica_id=ReplicaId("bench-0"),
                    group="bench",
                    engines=engines,
                    address=f"127.0.0.1:{port}",
                    node="here",
                ),
            )
        )
        yield Service(client=client, replica=psutil.Process(process.pid))
    finally:
        await client.aclose()
        process.kill()
        await process.wait()


@asynccontextmanager
async def embedded() -> AsyncIterator[InferenceClient]:
    """The engines in this process, on a thread of their own."""
    engines = EmbeddedEngines(NullSink(), SystemClock())
    client = EmbeddedInferenceClient(engines)
    try:
        yield client
    finally:
        await client.aclose()
        await asyncio.to_thread(engines.close)


def cpu_s(process: psutil.Process | None = None) -> float:
    """Return the CPU seconds of a process; of this one by default."""
    times = (process or psutil.Process()).cpu_times()
    return float(times.user + times.system)


class Ears(Protocol):
    """One stream of voice activity, whoever serves it."""

    def push(self, frame: Samples) -> None:
        """Hand a frame in."""
        ...

    async def heard(self) -> float:
        """Return up to which second of the stream the next result goes."""
        ...

    async def aclose(self) -> None:
        """End the stream."""
        ...


class StreamEars:
    """A stream of ours."""

    def __init__(self, stream: InferenceStream) -> None:
        self._stream = stream

    def push(self, frame: Samples) -> None:
        """Hand a frame in."""
        self._stream.push_audio(frame.tobytes(), SPEECH_RATE)

    async def heard(self) -> float:
        """Return up to which second of the stream the next result goes."""
        output = await self._stream.receive()
        assert isinstance(output, ProbabilityOutput)
        return output.end_sample / 16_000

    async def aclose(self) -> None:
        """End the stream."""
        await self._stream.aclose()


class PluginEars:
    """A stream of a livekit-agents VAD: the bundled one, or `voxray.VAD`."""

    def __init__(self, made: vad.VAD) -> None:
        self._stream = made.stream()
        self._windows = 0

    def push(self, frame: Samples) -> None:
        """Hand a frame in."""
        self._stream.push_frame(
            rtc.AudioFrame(
                data=frame.tobytes(),
                sample_rate=SPEECH_RATE,
                num_channels=1,
                samples_per_channel=len(frame),
            )
        )

    async def heard(self) -> float:
        """Return up to which second of the stream the next result goes."""
        async for event in self._stream:
            if event.type == vad.VADEventType.INFERENCE_DONE:
                self._windows += 1
                return self._windows * WINDOW_S
        raise StreamFinishedError("the stream has ended")

    async def aclose(self) -> None:
        """End the stream."""
        await self._stream.aclose()


def plugin_ears(system: str) -> list[PluginEars] | Any:
    """Return what makes streams of one plugin in this process."""
    made = inference.VAD(model="silero") if system == "stock" else voxray.VAD()
    return lambda: PluginEars(made)


async def listen(
    ears: Sequence[Ears], *, seconds: float, frame_s: float = 0.02, warm_s: float = 1.0
) -> list[float]:
    """Talk into all ears in real time, each at its own moment; return the latencies in seconds.

    A window's latency is from handing in the frame that completes it to having its result. Those
    of the first `warm_s` do not count.
    """
    samples = talk(seconds)
    size = round(frame_s * SPEECH_RATE)
    frames = [samples[start : start + size] for start in range(0, len(samples) - size + 1, size)]
    latencies: list[float] = []
    begin_s = time.perf_counter() + 0.2

    async def one(number: int, ear: Ears) -> None:
        pushed_s: list[float] = []
        offset_s = frame_s * number / len(ears)

        async def hear() -> None:
            while True:
                end_s = await ear.heard()
                now_s = time.perf_counter()
                frame = int(np.ceil(round(end_s / frame_s, 6))) - 1
                if frame < len(pushed_s) and frame * frame_s >= warm_s:
                    latencies.append(now_s - pushed_s[frame])

        hearing = asyncio.create_task(hear())
        for place, frame in enumerate(frames):
            due_s = begin_s + offset_s + place * frame_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            pushed_s.append(time.perf_counter())
            ear.push(frame)
        await asyncio.sleep(0.2)
        hearing.cancel()
        await asyncio.wait([hearing])

    async with asyncio.timeout(_PATIENCE_S + 4 * seconds):
        await asyncio.gather(*(one(number, ear) for number, ear in enumerate(ears)))
    return latencies


async def final_of(stream: InferenceStream) -> str:
    """Return the next final transcript."""
    while True:
        output = await stream.receive()
        if isinstance(output, TranscriptOutput) and output.final:
            return output.text


async def dictate(client: InferenceClient, calls: int, *, seconds: float) -> dict[str, float]:
    """Have calls say the same question again and again as fast as it is understood."""
    pcm = speak(SENTENCE).tobytes()
    streams = [await client.open("pocketsphinx", {"grammar": GRAMMAR}) for _ in range(calls)]
    until_s = time.perf_counter() + seconds
    right = count = 0

    async def one(stream: InferenceStream) -> None:
        nonlocal right, count
        while time.perf_counter() < until_s:
            stream.push_audio(pcm, SPEECH_RATE)
            stream.flush()
            text = await final_of(stream)
            count += 1
            right += text == SENTENCE

    begun_s = time.perf_counter()
    await asyncio.gather(*(one(stream) for stream in streams))
    took_s = time.perf_counter() - begun_s
    for stream in streams:
        await stream.aclose()
    return {
        "calls": calls,
        "utterances_per_s": round(count / took_s, 2),
        "audio_s_per_s": round(count * len(pcm) / 2 / SPEECH_RATE / took_s, 1),
        "right": round(right / max(1, count), 3),
    }


async def converse(client: InferenceClient, calls: int, *, turns: int) -> list[float]:
    """Have calls ask in real time; return the seconds from each end of speech to its transcript."""
    samples = speak(SENTENCE)
    size = round(0.02 * SPEECH_RATE)
    frames = [samples[start : start + size].tobytes() for start in range(0, len(samples), size)]
    streams = [await client.open("pocketsphinx", {"grammar": GRAMMAR}) for _ in range(calls)]
    delays: list[float] = []

    async def one(number: int, stream: InferenceStream) -> None:
        await asyncio.sleep(0.37 * number)
        for _ in range(turns):
            begin_s = time.perf_counter()
            for place, frame in enumerate(frames):
                await asyncio.sleep(max(0.0, begin_s + place * 0.02 - time.perf_counter()))
                stream.push_audio(frame, SPEECH_RATE)
            ended_s = time.perf_counter()
            stream.flush()
            await final_of(stream)
            delays.append(time.perf_counter() - ended_s)

    await asyncio.gather(*(one(number, stream) for number, stream in enumerate(streams)))
    for stream in streams:
        await stream.aclose()
    return delays
