"""The protocol of inference engines: what they are given, what they say, how they fail.

An engine is loaded once in a replica and serves the streams of all calls. The executor calls
`run_batch` on one worker thread at a time, never on the event loop; within a batch the work of a
stream is in order and a stream occurs at most once. Results are handed to `emit` as they are
made, so that speech is heard before the sentence is finished.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from voxray.base.errors import EngineConfigError

Samples: TypeAlias = npt.NDArray[np.int16]


class EngineKind(StrEnum):
    """What an engine does."""

    VAD = "vad"
    STT = "stt"
    TTS = "tts"
    TURN = "turn"


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What an engine is and needs.

    Attributes:
        name: its name in the registry and in `voxray.yaml`.
        kind: what it does.
        model: model name for metrics and spans.
        provider: provider name for metrics and spans.
        sample_rate: Hz; the rate its input is resampled to, or of its output for speech.
        max_batch: streams that one batch may hold.
        inputs_per_turn: queued inputs of one stream that are handed over at once; small where
            each is much work, so that streams take turns.
        max_text: characters of one text to speak at most; a longer one fails its stream before
            the engine sees it.
        cacheable: whether what it says to a text hangs on the text and the options alone, so that
            it may be said again without the engine.
    """

    name: str
    kind: EngineKind
    model: str
    provider: str
    sample_rate: int
    max_batch: int = 64
    inputs_per_turn: int = 64
    max_text: int = 5000
    cacheable: bool = True


@dataclass(frozen=True, slots=True)
class AudioInput:
    """Samples at the engine's rate, mono."""

    samples: Samples


@dataclass(frozen=True, slots=True)
class TextInput:
    """Text to speak."""

    text: str


@dataclass(frozen=True, slots=True)
class FlushInput:
    """End of a segment: say what is known; the next input starts afresh.

    An engine of turns says whether the turn has ended, and goes on with the same segment: only
    `discard` ends it there.

    Attributes:
        discard: forget the segment and say nothing of it.
    """

    discard: bool = False


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Nothing more will come: say what is left."""


EngineInput: TypeAlias = AudioInput | TextInput | FlushInput | EndOfInput


@dataclass(frozen=True, slots=True)
class ProbabilityOutput:
    """Speech probability of one window.

    Attributes:
        end_sample: the window's end, in samples at the engine's rate since the stream opened.
        probability: 0 to 1.
        inference_s: seconds the model took for the window.
    """

    end_sample: int
    probability: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class SpeechEdgeOutput:
    """The speaker began or ceased to speak, `at_s` seconds of audio after the stream opened."""

    speaking: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a transcript, with its time in seconds of audio since the stream opened."""

    text: str
    start_s: float
    end_s: float
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class TranscriptOutput:
    """What was said between two moments of the stream, in seconds of audio since it opened.

    `words` is empty where the engine tells no times of words.
    """

    text: str
    final: bool
    start_s: float
    end_s: float
    confidence: float = 1.0
    language: str = "en"
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnOutput:
    """How probable it is that the speaker's turn has ended: the answer to one flush.

    Attributes:
        probability: 0 to 1.
        at_s: seconds of audio up to the flush, since the stream opened.
        inference_s: seconds that the model took.
    """

    probability: float
    at_s: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class SpeechOutput:
    """Synthesised samples at the engine's rate, mono."""

    samples: Samples


EngineOutput: TypeAlias = (
    ProbabilityOutput | SpeechEdgeOutput | TranscriptOutput | TurnOutput | SpeechOutput
)


class EngineSession(Protocol):
    """The state of one stream inside an engine; only the engine looks inside."""

    def close(self) -> None:
        """Give back what the stream holds. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class WorkItem:
    """The next piece of work of one stream: its inputs in order."""

    session: EngineSession
    inputs: tuple[EngineInput, ...]
    emit: Callable[[EngineOutput], None]
    """Hands out a result; safe to call from the executor's thread."""
    cancelled: Callable[[], bool]
    """Whether nobody waits for the result any more; long work asks now and then."""


WorkResult: TypeAlias = "BaseException | Future[None] | None"
"""What became of an item: it was done, went wrong, or will be done when the future is."""


class Engine(Protocol):
    """One model, shared by all streams of a replica."""

    @property
    def info(self) -> EngineInfo:
        """What the engine is; known before `load`."""
        ...

    def load(self) -> None:
        """Load and warm the model, once, off the event loop.

        Raises:
            EngineConfigError: a file is missing or has the wrong format.
        """
        ...

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream; cheap, called on the event loop's thread or the executor's.

        Raises:
            EngineConfigError: the options are unknown or can't be met.
        """
        ...

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[WorkResult]:
        """Work through one batch; return for each item None or what went wrong with it.

        An engine that waits rather than computes (for a service elsewhere) may return a future
        for an item instead, so that its thread is free for others. Its `inputs_per_turn` must be
        1: the stream's next input comes when the future is done. The future's exception is the
        item's; it is cancelled when nobody waits for the stream any more. `emit` may be called
        until then, from any thread.

        An error of one item never disturbs the others. An engine that raises instead must have
        left every session as it was: the items are then tried again in smaller batches, and
        results that they gave already are not handed out twice.
        """
        ...

    def close(self) -> None:
        """Free the model. Idempotent."""
        ...


def try_out(engine: Engine, session: EngineSession, *inputs: EngineInput) -> list[EngineOutput]:
    """Run one tiny inference and return what came of it: the warm-up and self-test of a `load`.

    Raises:
        EngineConfigError: it fails; what is wrong with the inference is the cause.
    """
    outputs: list[EngineOutput] = []
    result: WorkResult
    try:
        (result,) = engine.run_batch([WorkItem(session, inputs, outputs.append, lambda: False)])
    except Exception as error:
        result = error
    finally:
        session.close()
    if isinstance(result, EngineConfigError):
        raise result
    if isinstance(result, BaseException):
        raise EngineConfigError(
            f"{engine.info.name}: fails on a first try ({type(result).__name__}: {result})"
        ) from result
    return outputs


EngineFactory: TypeAlias = Callable[..., Engine]


def run_each(
    items: Sequence[WorkItem], run: Callable[[WorkItem], None]
) -> list[BaseException | None]:
    """Run a batch item by item, for engines whose model takes one stream at a time.

    The batch still pays: one hop to the engine's thread serves all its streams.
    """
    results: list[BaseException | None] = []
    for item in items:
        try:
            run(item)
        except Exception as error:
            results.append(error)
        else:
            results.append(None)
    return results
