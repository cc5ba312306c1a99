"""End of turn by sound: the model that comes with livekit-agents, `turn-detector-v1-mini`.

The native library takes 1.2 s of one call at a time and has no entry for more; it frees the
interpreter while it works. So the questions of a batch are worked through side by side, by as many
threads as there are cores, and the model's 0.3 GB are there once for all calls.
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from livekit.local_inference import EOT, EOT_MAX_SAMPLES, init_eot

from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    EngineInfo,
    EngineKind,
    EngineSession,
    FlushInput,
    Samples,
    TextInput,
    TurnOutput,
    WorkItem,
)
from voxray.pipelines.engines.options import NoOptions, read_options

__all__ = ["SAMPLE_RATE", "TurnEngine", "TurnSettings"]

SAMPLE_RATE = 16_000
"""Hz; the only rate of the bundled model."""
_MOST_THREADS = 8
# A question takes about 50 ms of one core: more threads than that are for more cores than a
# replica has.


class _Session:
    """The last 1.2 s of one stream: all that the model hears."""

    def __init__(self) -> None:
        self._heard = np.empty(0, np.int16)
        self._position = 0

    @property
    def at_s(self) -> float:
        """Seconds of audio since the stream opened."""
        return self._position / SAMPLE_RATE

    def hear(self, samples: Samples) -> None:
        self._position += len(samples)
        self._heard = np.concatenate([self._heard, samples])[-EOT_MAX_SAMPLES:]

    def forget(self) -> None:
        self._heard = np.empty(0, np.int16)

    def audio(self) -> Samples:
        return self._heard

    def close(self) -> None:
        self.forget()


@dataclass(frozen=True, slots=True)
class _Question:
    """What was heard up to a flush."""

    number: int
    item: WorkItem
    audio: Samples
    at_s: float


@dataclass(frozen=True, kw_only=True)
class TurnSettings:
    """What the engine is loaded with.

    Attributes:
        threads: questions that are worked on at once; 0 takes a thread for each core, up to 8.
    """

    threads: int = 0

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 <= self.threads <= 64:
            raise ValueError(f"threads must be 0 to 64, not {self.threads}")


class TurnEngine:
    """Says at each flush how probable it is that the speaker's turn has ended."""

    def __init__(self, **settings: Any) -> None:
        """Prepare; `load` does the work.

        Args:
            **settings: the fields of `TurnSettings`.

        Raises:
            EngineConfigError: a setting is unknown or has a wrong value.
        """
        threads = read_options("eot", TurnSettings, settings).threads
        self._threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None
        self._model: EOT | None = None

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name="eot",
            kind=EngineKind.TURN,
            model="turn-detector-v1-mini",
            provider="livekit-local-inference",
            sample_rate=SAMPLE_RATE,
            max_batch=256,
        )

    def load(self) -> None:
        """Load the model, which is one for the process, and ask it about silence."""
        init_eot()
        self._model = EOT()
        self._model.predict(np.zeros(EOT_MAX_SAMPLES, np.int16))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="engine-eot")

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream.

        Raises:
            EngineConfigError: an option was given.
        """
        read_options(self.info.name, NoOptions, options)
        return _Session()

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[BaseException | None]:
        """Hear one batch, and answer its questions side by side."""
        assert self._pool is not None, "the engine was used before its load, or after its close"
        errors: list[BaseException | None] = [None] * len(items)
        questions = [
            question for number, item in enumerate(items) for question in _hear(number, item)
        ]
        for question, answer in zip(questions, self._pool.map(self._ask, questions), strict=True):
            if isinstance(answer, Exception):
                errors[question.number] = answer
            elif answer is not None and errors[question.number] is None:
                question.item.emit(answer)
        return errors

    def close(self) -> None:
        """End the threads; the model belongs to the process. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        model, self._model = self._model, None
        if model is not None:
            model.close()

    def _ask(self, question: _Question) -> TurnOutput | Exception | None:
        if question.item.cancelled():
            return None
        assert self._model is not None
        started_s = time.perf_counter()
        try:
            probability = float(self._model.predict(question.audio))
        except Exception as error:
            return error
        return TurnOutput(probability, question.at_s, time.perf_counter() - started_s)


def _hear(number: int, item: WorkItem) -> list[_Question]:
    session = item.session
    assert isinstance(session, _Session), "a session of another engine"
    questions = []
    for given in item.inputs:
        match given:
            case AudioInput(samples=samples):
                session.hear(samples)
            case FlushInput(discard=True):
                session.forget()
            case FlushInput():
                questions.append(_Question(number, item, session.audio(), session.at_s))
            case EndOfInput() | TextInput():
                pass
    return questions
