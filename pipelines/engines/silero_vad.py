"""Silero voice activity detection, in the native library that comes with livekit-agents."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from livekit.local_inference import VAD, VAD_WINDOW_SAMPLES, init_vad

from voxray.base.errors import EngineConfigError
from voxray.pipelines.audio import WindowCutter
from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    EngineInfo,
    EngineKind,
    EngineSession,
    FlushInput,
    ProbabilityOutput,
    Samples,
    TextInput,
    WorkItem,
    run_each,
    try_out,
)
from voxray.pipelines.engines.options import NoOptions, read_options

__all__ = ["SAMPLE_RATE", "WINDOW_S", "SileroVadEngine", "SpeechProbabilities"]

SAMPLE_RATE = 16_000
"""Hz; the only rate of the bundled model."""
WINDOW_S: float = VAD_WINDOW_SAMPLES / SAMPLE_RATE
"""Seconds of one window: 512 samples, 32 ms."""


class SpeechProbabilities:
    """The state of the model for one stream: samples in, one probability for each window out."""

    def __init__(self) -> None:
        self._native = VAD()
        self._cutter = WindowCutter(VAD_WINDOW_SAMPLES)
        self._position = 0

    def push(self, samples: Samples) -> list[ProbabilityOutput]:
        """Return the windows that are complete with these samples."""
        results = []
        for window in self._cutter.push(samples):
            started_s = time.perf_counter()
            probability = self._native.predict(window)
            inference_s = time.perf_counter() - started_s
            self._position += len(window)
            results.append(ProbabilityOutput(self._position, probability, inference_s))
        return results

    def reset(self) -> None:
        """Forget what was heard; positions go on, past the samples of an unfinished window."""
        self._position += self._cutter.waiting
        self._cutter.reset()
        self._native.reset()

    def close(self) -> None:
        """Free the native state. Idempotent."""
        self._native.close()


class _Session:
    def __init__(self) -> None:
        self.probabilities = SpeechProbabilities()

    def close(self) -> None:
        self.probabilities.close()


class SileroVadEngine:
    """Says for each 32 ms how probable it is that somebody speaks."""

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name="silero",
            kind=EngineKind.VAD,
            model="silero",
            provider="livekit-local-inference",
            sample_rate=SAMPLE_RATE,
            max_batch=256,
        )

    def load(self) -> None:
        """Load the model, which is one for the process, and hear a window of silence.

        Raises:
            EngineConfigError: it tells no probability.
        """
        init_vad()
        silence = AudioInput(np.zeros(VAD_WINDOW_SAMPLES, np.int16))
        if len(try_out(self, _Session(), silence)) != 1:
            raise EngineConfigError("silero: hears nothing in a window: the model is another one")

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream.

        Raises:
            EngineConfigError: an option was given.
        """
        read_options(self.info.name, NoOptions, options)
        return _Session()

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[BaseException | None]:
        """Work through one batch."""
        return run_each(items, _run)

    def close(self) -> None:
        """Do nothing: the model belongs to the process."""


def _run(item: WorkItem) -> None:
    assert isinstance(item.session, _Session), "a session of another engine"
    probabilities = item.session.probabilities
    for given in item.inputs:
        if item.cancelled():
            return
        match given:
            case AudioInput(samples=samples):
                for output in probabilities.push(samples):
                    item.emit(output)
            case FlushInput():
                probabilities.reset()
            case EndOfInput() | TextInput():
                pass
