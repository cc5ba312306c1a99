"""Has a speech model hear the utterances of one stream, while they are spoken."""

from collections.abc import Callable, Iterator

from voxray.pipelines.engines.base import (
    AudioInput,
    EndOfInput,
    EngineInput,
    EngineOutput,
    FlushInput,
    SpeechEdgeOutput,
    TextInput,
    TranscriptOutput,
)
from voxray.pipelines.engines.endpointing import EndpointingOptions
from voxray.pipelines.engines.pocketsphinx_decoder import Speaker
from voxray.pipelines.engines.pocketsphinx_models import SpeechModel, Utterance
from voxray.pipelines.engines.utterance_cutter import (
    UtteranceBegan,
    UtteranceCutter,
    UtteranceEnded,
    UtteranceEvent,
    UtteranceGrew,
)

_FIRST_INTERIM_S = 0.5
_INTERIM_GROWTH = 1.4
# An interim result decodes the utterance from its beginning: with lengths that grow by this
# factor, all of them together cost at most 1 / (1 - 1 / 1.4) = 3.5 times the final one.

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
        self._cutter = UtteranceCutter(endpointing)
        self._utterance: Utterance | None = None
        self._started_s = 0.0
        self._next_interim_s = 0.0
        self._last_interim = ""

    def push(self, given: EngineInput, emit: Emit) -> None:
        """Take the next input; hand out what it brings."""
        match given:
            case AudioInput(samples=samples):
                self._model.prepare()
                self._take(self._cutter.push(samples), emit)
            case FlushInput(discard=True):
                self._take(self._cutter.flush(), emit, forget=True)
            case FlushInput():
                if not self._take(self._cutter.flush(), emit):
                    # Who flushes waits for a final transcript, also when nothing was said.
                    emit(self._transcript("", self._cutter.now_s, final=True))
            case EndOfInput():
                self._take(self._cutter.flush(), emit)
            case TextInput():
                pass

    def close(self) -> None:
        """Abandon what was heard. Idempotent."""
        self._abandon()
        self._cutter.close()

    def _take(self, events: Iterator[UtteranceEvent], emit: Emit, *, forget: bool = False) -> bool:
        """Work through what was heard; return whether a final transcript was handed out."""
        said = False
        for event in events:
            match event:
                case UtteranceBegan(at_s=at_s, goes_on=goes_on):
                    self._begin(event)
                    if not goes_on:
                        emit(SpeechEdgeOutput(True, at_s))
                        self._tell_interim(self._cutter.now_s, emit)
                case UtteranceGrew(audio=window, now_s=now_s):
                    assert self._utterance is not None
                    self._utterance.add(window)
                    self._tell_interim(now_s, emit)
                case UtteranceEnded(at_s=at_s, goes_on=goes_on):
                    if forget:
                        self._abandon()
                    else:
                        said = self._end(at_s, emit) or said
                    if not goes_on:
                        emit(SpeechEdgeOutput(False, at_s))
        return said

    def _begin(self, event: UtteranceBegan) -> None:
        self._utterance = self._model.begin(self._speaker)
        for window in event.audio:
            self._utterance.add(window)
        self._started_s = event.at_s
        self._next_interim_s = self._cutter.length_s + _FIRST_INTERIM_S
        self._last_interim = ""

    def _tell_interim(self, now_s: float, emit: Emit) -> None:
        assert self._utterance is not None
        length_s = self._cutter.length_s
        if not self._interim_results or length_s < self._next_interim_s:
            return
        self._next_interim_s = length_s * _INTERIM_GROWTH
        text = self._utterance.interim()
        if text and text != self._last_interim:
            self._last_interim = text
            emit(self._transcript(text, now_s, final=False))

    def _abandon(self) -> None:
        if self._utterance is not None:
            self._utterance.abandon()
            self._utterance = None

    def _end(self, ended_s: float, emit: Emit) -> bool:
        """Transcribe the utterance; return whether it had words."""
        utterance, self._utterance = self._utterance, None
        text = utterance.finish() if utterance is not None else ""
        if text:
            emit(self._transcript(text, ended_s, final=True))
        return bool(text)

    def _transcript(self, text: str, end_s: float, *, final: bool) -> TranscriptOutput:
        return TranscriptOutput(
            text=text,
            final=final,
            start_s=self._started_s,
            end_s=end_s,
            language=self._language,
        )
