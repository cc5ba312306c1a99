"""Cuts the audio of one stream into utterances and has a speech model hear them."""

from collections import deque
from collections.abc import Callable

import numpy as np

from voxray.pipelines.audio import WindowCutter
from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    EngineInput,
    EngineOutput,
    FlushInput,
    Samples,
    SpeechEdgeOutput,
    TextInput,
    TranscriptOutput,
)
from voxray.pipelines.engines.endpointing import (
    Endpointer,
    EndpointingOptions,
    SpeechEnded,
    SpeechStarted,
)
from voxray.pipelines.engines.pocketsphinx_decoder import Speaker
from voxray.pipelines.engines.pocketsphinx_models import SpeechModel, Utterance
from voxray.pipelines.engines.silero_vad import SAMPLE_RATE, WINDOW_S, SpeechProbabilities

_FIRST_INTERIM_S = 0.5
_INTERIM_GROWTH = 1.4
# An interim result decodes the utterance from its beginning: with lengths that grow by this
# factor, all of them together cost at most 1 / (1 - 1 / 1.4) = 3.5 times the final one.
_LONGEST_S = 30.0
# An utterance is transcribed in parts of this length: nobody waits longer, and memory is bounded.

Emit = Callable[[EngineOutput], None]


class Listener:
    """The ears of one stream: samples in; edges, interim and final transcripts out.

    The final transcript of an utterance comes before its end edge.
    """

    def __init__(
        self,
        model: SpeechModel,
        endpointing: EndpointingOptions,
        *,
        language: str,
        interim_results: bool,
    ) -> None:
        self._model = model
        self._language = language
        self._interim_results = interim_results
        self._speaker = Speaker()
        self._probabilities = SpeechProbabilities()
        self._cutter = WindowCutter(round(WINDOW_S * SAMPLE_RATE))
        self._endpointer = Endpointer(endpointing)
        kept_s = endpointing.prefix_padding_s + endpointing.min_speech_s + WINDOW_S
        self._recent: deque[Samples] = deque(maxlen=max(1, round(kept_s / WINDOW_S)))
        self._utterance: Utterance | None = None
        self._started_s = 0.0
        self._length_s = 0.0
        # Silence that we put in ourselves; the endpointer's time is ahead by so much.
        self._padded_s = 0.0
        self._next_interim_s = 0.0
        self._last_interim = ""

    def push(self, given: EngineInput, emit: Emit) -> None:
        """Take the next input; hand out what it brings."""
        match given:
            case AudioInput(samples=samples):
                self._model.prepare()
                for window in self._cutter.push(samples):
                    self._hear(window, emit)
            case FlushInput():
                if not self._flush(emit):
                    # Who flushes waits for a final transcript, also when nothing was said.
                    emit(self._transcript("", self._endpointer.now_s, final=True))
            case EndOfInput():
                self._flush(emit)
            case TextInput():
                pass

    def close(self) -> None:
        """Abandon what was heard. Idempotent."""
        if self._utterance is not None:
            self._utterance.abandon()
            self._utterance = None
        self._probabilities.close()

    def _hear(self, window: Samples, emit: Emit) -> None:
        for output in self._probabilities.push(window):
            edge = self._endpointer.push(output.probability, WINDOW_S)
            self._recent.append(window)
            if isinstance(edge, SpeechStarted):
                self._begin(edge)
                emit(self._edge(True, edge.at_s))
            elif self._utterance is not None:
                self._utterance.add(window)
                self._length_s += WINDOW_S
            if isinstance(edge, SpeechEnded):
                self._end(edge.at_s, emit)
                emit(self._edge(False, edge.at_s))
            elif self._utterance is not None:
                self._go_on(emit)

    def _begin(self, edge: SpeechStarted) -> None:
        wanted = round((self._endpointer.now_s - edge.from_s) / WINDOW_S)
        self._start_utterance(edge.at_s, list(self._recent)[-wanted:])

    def _start_utterance(self, started_s: float, windows: list[Samples]) -> None:
        self._utterance = self._model.begin(self._speaker)
        for window in windows:
            self._utterance.add(window)
        self._started_s = started_s
        self._length_s = len(windows) * WINDOW_S
        self._next_interim_s = self._length_s + _FIRST_INTERIM_S
        self._last_interim = ""

    def _go_on(self, emit: Emit) -> None:
        assert self._utterance is not None
        now_s = self._endpointer.now_s
        if self._length_s >= _LONGEST_S:
            self._end(now_s, emit)
            self._start_utterance(now_s, [])
        elif self._interim_results and self._length_s >= self._next_interim_s:
            self._next_interim_s = self._length_s * _INTERIM_GROWTH
            text = self._utterance.interim()
            if text and text != self._last_interim:
                self._last_interim = text
                emit(self._transcript(text, now_s, final=False))

    def _end(self, ended_s: float, emit: Emit) -> bool:
        """Transcribe the utterance; return whether it had words."""
        utterance, self._utterance = self._utterance, None
        text = utterance.finish() if utterance is not None else ""
        if text:
            emit(self._transcript(text, ended_s, final=True))
        return bool(text)

    def _flush(self, emit: Emit) -> bool:
        """Finish what was said so far; return whether a final transcript was handed out."""
        if rest := self._cutter.waiting:
            # The last sound may be in the window that is not full yet.
            padding = round(WINDOW_S * SAMPLE_RATE) - rest
            self._padded_s += padding / SAMPLE_RATE
            for window in self._cutter.push(np.zeros(padding, np.int16)):
                self._hear(window, emit)
        ended = self._endpointer.flush()
        heard = False
        if ended is not None:
            heard = self._end(ended.at_s, emit)
            emit(self._edge(False, ended.at_s))
        self._probabilities.reset()
        self._recent.clear()
        return heard

    def _edge(self, speaking: bool, at_s: float) -> SpeechEdgeOutput:
        return SpeechEdgeOutput(speaking, max(0.0, at_s - self._padded_s))

    def _transcript(self, text: str, end_s: float, *, final: bool) -> TranscriptOutput:
        return TranscriptOutput(
            text=text,
            final=final,
            start_s=max(0.0, self._started_s - self._padded_s),
            end_s=max(0.0, end_s - self._padded_s),
            language=self._language,
        )
