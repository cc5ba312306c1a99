"""Cuts the audio of one stream into utterances, wherever its speaker pauses."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from voxray.pipelines.audio import WindowCutter
from voxray.pipelines.engines.base import Samples
from voxray.pipelines.engines.endpointing import (
    Endpointer,
    EndpointingOptions,
    SpeechEnded,
    SpeechStarted,
)
from voxray.pipelines.engines.silero_vad import SAMPLE_RATE, WINDOW_S, SpeechProbabilities

LONGEST_S = 30.0
"""An utterance is heard in parts of this length: nobody waits longer, and memory is bounded."""


@dataclass(frozen=True, slots=True)
class UtteranceBegan:
    """Somebody began to speak.

    Attributes:
        at_s: when, in seconds of audio since the stream opened.
        audio: what belongs to the utterance so far, the padding before the speech included.
        goes_on: it is the next part of speech that was cut for its length.
    """

    at_s: float
    audio: tuple[Samples, ...]
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class UtteranceGrew:
    """The utterance has one more window of audio; `now_s` is its end."""

    audio: Samples
    now_s: float


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """The utterance ended at `at_s`; `goes_on`: it was cut, and its next part begins now."""

    at_s: float
    goes_on: bool = False


UtteranceEvent: TypeAlias = UtteranceBegan | UtteranceGrew | UtteranceEnded


class UtteranceCutter:
    """Samples of one stream in, utterances out. Times are seconds of audio since it opened."""

    def __init__(self, endpointing: EndpointingOptions, *, longest_s: float = LONGEST_S) -> None:
        """Listen from now on; an utterance longer than `longest_s` comes in parts."""
        self._longest_s = longest_s
        self._probabilities = SpeechProbabilities()
        self._cutter = WindowCutter(round(WINDOW_S * SAMPLE_RATE))
        self._endpointer = Endpointer(endpointing)
        kept_s = endpointing.prefix_padding_s + endpointing.min_speech_s + WINDOW_S
        self._recent: deque[Samples] = deque(maxlen=max(1, round(kept_s / WINDOW_S)))
        # Length of the utterance under way, its padding included; None between utterances.
        self._length_s: float | None = None
        # Silence that we put in ourselves; the endpointer's time is ahead by so much.
        self._padded_s = 0.0

    @property
    def now_s(self) -> float:
        """Seconds of audio that were heard."""
        return self._told(self._endpointer.now_s)

    @property
    def length_s(self) -> float:
        """Length of the utterance under way; 0 between utterances."""
        return self._length_s or 0.0

    def push(self, samples: Samples) -> Iterator[UtteranceEvent]:
        """Hear samples, at 16 kHz."""
        for window in self._cutter.push(samples):
            yield from self._hear(window)

    def flush(self) -> Iterator[UtteranceEvent]:
        """End the utterance under way, if there is one, and forget what was heard."""
        if rest := self._cutter.waiting:
            # The last sound may be in the window that is not full yet.
            padding = round(WINDOW_S * SAMPLE_RATE) - rest
            self._padded_s += padding / SAMPLE_RATE
            for window in self._cutter.push(np.zeros(padding, np.int16)):
                yield from self._hear(window)
        ended = self._endpointer.flush()
        if ended is not None:
            yield self._end(ended)
        self._probabilities.reset()
        self._recent.clear()

    def close(self) -> None:
        """Free what is native. Idempotent."""
        self._probabilities.close()

    def _hear(self, window: Samples) -> Iterator[UtteranceEvent]:
        for output in self._probabilities.push(window):
            edge = self._endpointer.push(output.probability, WINDOW_S)
            self._recent.append(window)
            if isinstance(edge, SpeechStarted):
                yield self._begin(edge)
            elif self._length_s is not None:
                self._length_s += WINDOW_S
                yield UtteranceGrew(window, self.now_s)
            if isinstance(edge, SpeechEnded):
                yield self._end(edge)
            elif self._length_s is not None and self._length_s >= self._longest_s:
                yield UtteranceEnded(self.now_s, goes_on=True)
                self._length_s = 0.0
                yield UtteranceBegan(self.now_s, (), goes_on=True)

    def _begin(self, edge: SpeechStarted) -> UtteranceBegan:
        wanted = round((self._endpointer.now_s - edge.from_s) / WINDOW_S)
        audio = tuple(self._recent)[-wanted:]
        self._length_s = len(audio) * WINDOW_S
        return UtteranceBegan(self._told(edge.at_s), audio)

    def _end(self, edge: SpeechEnded) -> UtteranceEnded:
        self._length_s = None
        return UtteranceEnded(self._told(edge.at_s))

    def _told(self, at_s: float) -> float:
        return max(0.0, at_s - self._padded_s)
