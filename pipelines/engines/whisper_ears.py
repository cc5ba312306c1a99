"""What the Whisper engine keeps of one stream: its utterance under way and what is to be told."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

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
    Word,
)
from voxray.pipelines.engines.endpointing import EndpointingOptions
from voxray.pipelines.engines.utterance_cutter import (
    UtteranceBegan,
    UtteranceCutter,
    UtteranceEnded,
    UtteranceEvent,
    UtteranceGrew,
)
from voxray.pipelines.engines.whisper_decoder import DecodeOptions, Heard, Utterance

Emit: TypeAlias = Callable[[EngineOutput], None]

_UNSURE_LOGPROB = -1.0
# Whisper's own rule: what is probably no speech counts as speech if its words are this probable.
_FIRST_INTERIM_S = 0.6


@dataclass(frozen=True, kw_only=True)
class EarOptions:
    """How one stream is listened to.

    Attributes:
        decode: how its utterances are heard.
        endpointing: where they begin and end.
        longest_s: length at which one is cut.
        interim_every_s: seconds of audio between interim results; 0 for none.
        no_speech: probability of no speech from which unsure words are dropped.
    """

    decode: DecodeOptions
    endpointing: EndpointingOptions
    longest_s: float
    interim_every_s: float
    no_speech: float


@dataclass(slots=True, eq=False)
class Pending:
    """An utterance that has ended and is not transcribed yet.

    Attributes:
        audio: its audio and how to hear it.
        from_s: where its audio begins, in seconds since the stream opened.
        started_s: where its speech began.
        ended_s: where it ended.
        heard: what the model made of it, once it has.
    """

    audio: Utterance
    from_s: float
    started_s: float
    ended_s: float
    heard: Heard | None = None


@dataclass(frozen=True, slots=True)
class _FlushDone:
    """A flush was worked through; one final transcript is owed, with words or without.

    Attributes:
        at_s: when, in seconds of audio since the stream opened.
        ended: utterances that it ended.
    """

    at_s: float
    ended: tuple[Pending, ...]


class Ears:
    """One stream: inputs in, results out in their order, as far as what they need is heard."""

    def __init__(self, options: EarOptions) -> None:
        self._options = options
        self._cutter = UtteranceCutter(options.endpointing, longest_s=options.longest_s)
        self._audio: list[Samples] = []
        self._from_s = self._started_s = 0.0
        self._next_interim_s = 0.0
        self._last_interim = ""
        self._to_tell: deque[EngineOutput | Pending | _FlushDone] = deque()

    def push(self, given: EngineInput) -> None:
        """Take the next input."""
        match given:
            case AudioInput(samples=samples):
                self._take(self._cutter.push(samples))
            case FlushInput(discard=True):
                self._take(self._cutter.flush(), forget=True)
            case FlushInput():
                ended = self._take(self._cutter.flush())
                self._to_tell.append(_FlushDone(self._cutter.now_s, tuple(ended)))
            case EndOfInput():
                self._take(self._cutter.flush())
            case TextInput():
                pass

    @property
    def pending(self) -> list[Pending]:
        """Utterances that have ended and wait to be heard."""
        return [each for each in self._to_tell if isinstance(each, Pending) and each.heard is None]

    @property
    def interim_overdue_s(self) -> float | None:
        """Seconds since an interim result was due; None if none is."""
        if not self._audio or not self._options.interim_every_s:
            return None
        late_s = self._cutter.length_s - self._next_interim_s
        return late_s if late_s >= 0 else None

    def interim_audio(self) -> Utterance:
        """Return the utterance under way, to be heard quickly; the next one is due later."""
        self._next_interim_s = self._cutter.length_s + self._options.interim_every_s
        decode = self._options.decode
        quick = DecodeOptions(language=decode.language, task=decode.task, prompt=decode.prompt)
        return Utterance(self._joined(), quick)

    def interim_heard(self, heard: Heard, emit: Emit) -> None:
        """Tell what the utterance under way sounds like, if it is something new."""
        if self._is_speech(heard) and heard.text != self._last_interim:
            self._last_interim = heard.text
            emit(
                TranscriptOutput(
                    text=heard.text,
                    final=False,
                    start_s=self._started_s,
                    end_s=self._cutter.now_s,
                    confidence=heard.confidence,
                    language=heard.language,
                )
            )

    def tell(self, emit: Emit) -> None:
        """Hand out what is known, up to the first utterance that is not heard yet."""
        while self._to_tell:
            next_one = self._to_tell[0]
            if isinstance(next_one, Pending):
                if next_one.heard is None:
                    return
                if self._is_speech(next_one.heard):
                    emit(_final(next_one, next_one.heard))
            elif isinstance(next_one, _FlushDone):
                self._answer(next_one, emit)
            else:
                emit(next_one)
            self._to_tell.popleft()

    def close(self) -> None:
        """Free what is native. Idempotent."""
        self._cutter.close()
        self._audio.clear()

    def _answer(self, flush: _FlushDone, emit: Emit) -> None:
        said = (each.heard is not None and self._is_speech(each.heard) for each in flush.ended)
        if not any(said):
            language = self._options.decode.language or "en"
            emit(
                TranscriptOutput(
                    text="", final=True, start_s=flush.at_s, end_s=flush.at_s, language=language
                )
            )

    def _take(self, events: Iterator[UtteranceEvent], *, forget: bool = False) -> list[Pending]:
        """Take in what was heard; return the utterances that ended and are not to be forgotten."""
        ended: list[Pending] = []
        for event in events:
            match event:
                case UtteranceBegan(at_s=at_s, audio=audio, goes_on=goes_on):
                    self._audio = list(audio)
                    length_s = self._cutter.length_s
                    self._from_s = max(0.0, self._cutter.now_s - length_s)
                    self._started_s = at_s
                    self._next_interim_s = length_s + _FIRST_INTERIM_S
                    self._last_interim = ""
                    if not goes_on:
                        self._to_tell.append(SpeechEdgeOutput(True, at_s))
                case UtteranceGrew(audio=window):
                    self._audio.append(window)
                case UtteranceEnded(at_s=at_s, goes_on=goes_on):
                    if not forget:
                        whole = Utterance(self._joined(), self._options.decode)
                        ended.append(Pending(whole, self._from_s, self._started_s, at_s))
                        self._to_tell.append(ended[-1])
                    self._audio = []
                    if not goes_on:
                        self._to_tell.append(SpeechEdgeOutput(False, at_s))
        return ended

    def _joined(self) -> Samples:
        # Kept as one piece, so that the next call joins less.
        self._audio = [np.concatenate([np.empty(0, np.int16), *self._audio])]
        return self._audio[0]

    def _is_speech(self, heard: Heard) -> bool:
        silent = heard.no_speech > self._options.no_speech
        return bool(heard.text) and not (silent and heard.mean_logprob < _UNSURE_LOGPROB)


def _final(pending: Pending, heard: Heard) -> TranscriptOutput:
    return TranscriptOutput(
        text=heard.text,
        final=True,
        start_s=pending.started_s,
        end_s=pending.ended_s,
        confidence=heard.confidence,
        language=heard.language,
        words=tuple(
            Word(
                text=word.text,
                start_s=pending.from_s + word.start_s,
                end_s=pending.from_s + word.end_s,
                confidence=word.confidence,
            )
            for word in heard.words
        ),
    )
