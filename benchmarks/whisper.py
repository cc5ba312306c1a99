"""What hearing many calls in one pass of Whisper brings, against one call at a time.

Calls talk in a closed loop: each says a sentence, waits for its transcript, and says the next one.
The engine is voxray's own, with its batcher and its thread; only `batch` differs. The model is made
on the spot in the size that is asked for, and says as many words as the sentence has: a pass costs
what a trained model's costs, and the words mean nothing. `--model` takes a trained one.
"""

import argparse
import asyncio
import json
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import tiny_whisper
from benchmarks.systems import RESULTS, machine
from voxray.base.timing import SystemClock
from voxray.loadtest.report import percentile
from voxray.observability.events import NullSink
from voxray.pipelines.audio import StreamResampler
from voxray.pipelines.engine_host import EngineHost
from voxray.pipelines.engines.base import AudioInput, EngineOutput, FlushInput, Samples
from voxray.pipelines.engines.espeak_tts import SAMPLE_RATE, Voice, synthesize
from voxray.pipelines.engines.whisper_stt import WhisperEngine

_RATE = 16_000
_SENTENCE = "When does the next train to Berlin leave, and from which platform?"
_WORDS = ("when", "does", "the", "next", "train", "to", "Berlin", "leave,", "and", "from")
_FRAME_S = 0.1


@dataclass
class Call:
    """One call: its stream, and how long its transcripts took."""

    host: EngineHost
    audio: Samples
    latencies_s: list[float] = field(default_factory=list)

    async def talk(self, utterances: int) -> None:
        """Say the sentence so many times, each after the transcript of the one before."""
        heard = asyncio.Event()
        ended: list[BaseException] = []

        def end(error: BaseException) -> None:
            ended.append(error)
            heard.set()

        stream = self.host.open(
            "whisper",
            {"interim_results": False, "min_silence_s": 2.0},
            on_output=_ignore,
            on_end=end,
            on_progress=lambda _: heard.set(),
        )
        size = round(_RATE * _FRAME_S)
        for _ in range(utterances):
            for start in range(0, len(self.audio), size):
                stream.push(AudioInput(self.audio[start : start + size]))
            stream.push(FlushInput())
            flushed_s = time.perf_counter()
            while stream.pending and not ended:
                heard.clear()
                await heard.wait()
            if ended:
                raise ended[0]
            self.latencies_s.append(time.perf_counter() - flushed_s)
        stream.close()


def _ignore(_: EngineOutput) -> None:
    """What was said is the same each time."""


async def measure(
    engine: WhisperEngine, *, batch: int, calls: int, utterances: int, audio: Samples
) -> dict[str, Any]:
    """Have so many calls talk; return what they saw."""
    host = EngineHost(
        [engine],
        max_streams=calls,
        latency_budget_ms=8.0,
        max_batch=256,
        sink=NullSink(),
        clock=SystemClock(),
    )
    await host.start()
    try:
        await Call(host, audio).talk(1)
        talking = [Call(host, audio) for _ in range(calls)]
        started_s = time.perf_counter()
        await asyncio.gather(*(call.talk(utterances) for call in talking))
        took_s = time.perf_counter() - started_s
    finally:
        await host.aclose()
    latencies_s = [each for call in talking for each in call.latencies_s]
    return {
        "calls": calls,
        "batch": batch,
        "audio_s_per_s": round(calls * utterances * len(audio) / _RATE / took_s, 2),
        "p50_s": round(percentile(latencies_s, 50), 3),
        "p95_s": round(percentile(latencies_s, 95), 3),
    }


def _audio() -> Samples:
    speech = StreamResampler(SAMPLE_RATE, _RATE).push(synthesize(_SENTENCE, Voice()))
    return np.concatenate([np.zeros(_RATE // 4, np.int16), speech])


async def main() -> None:
    """Measure all numbers of calls, one at a time and together, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(tiny_whisper.SIZES), default="tiny")
    parser.add_argument("--model", type=Path, help="folder of a trained model instead")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--compute-type", default="auto")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--batch", type=int, default=16, help="utterances in one pass at most")
    parser.add_argument("--utterances", type=int, default=64, help="in each measurement, about")
    parser.add_argument("--window-s", type=float, default=30.0)
    parser.add_argument("--output", type=Path, default=RESULTS / "whisper.json")
    arguments = parser.parse_args()
    audio = _audio()
    runs = []
    with tempfile.TemporaryDirectory(prefix="voxray-whisper-") as folder:
        model = arguments.model or tiny_whisper.make(
            Path(folder) / arguments.size, tiny_whisper.SIZES[arguments.size], words=_WORDS
        )
        for calls in arguments.calls:
            for batch in (1, arguments.batch):
                engine = WhisperEngine(
                    model=str(model),
                    device=arguments.device,
                    compute_type=arguments.compute_type,
                    batch=batch,
                    window_s=arguments.window_s,
                )
                each = max(2, math.ceil(arguments.utterances / calls))
                run = await measure(engine, batch=batch, calls=calls, utterances=each, audio=audio)
                runs.append(run)
                print(json.dumps(run), flush=True)
    report = {
        "machine": machine(),
        "model": arguments.model.name if arguments.model else arguments.size,
        "device": arguments.device,
        "compute_type": arguments.compute_type,
        "window_s": arguments.window_s,
        "sentence_s": round(len(audio) / _RATE, 2),
        "runs": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
