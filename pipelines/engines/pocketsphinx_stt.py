"""Speech to text by pocketsphinx: small, offline, good with a grammar, poor at free dictation.

It finds the ends of utterances itself, with the Silero model. Noise that the grammar or the
model has no words for gives no transcript, only the edges of speech.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pocketsphinx

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import EngineInfo, EngineKind, EngineSession, WorkItem, run_each
from voxray.pipelines.engines.endpointing import EndpointingOptions
from voxray.pipelines.engines.jsgf import GrammarError, read_grammar
from voxray.pipelines.engines.options import read_options
from voxray.pipelines.engines.pocketsphinx_decoder import Decoder, Speaker
from voxray.pipelines.engines.pocketsphinx_models import GrammarModel, LanguageModel, SpeechModel
from voxray.pipelines.engines.pronunciations import PronunciationDictionary
from voxray.pipelines.engines.silero_vad import SAMPLE_RATE
from voxray.pipelines.engines.utterances import Listener

__all__ = ["PocketsphinxEngine", "PocketsphinxOptions"]

_TRIED_GRAMMAR = "#JSGF V1.0; grammar voxray; public <it> = yes;"
# What the first decoder is tried with.
_MODELS_KEPT = 8
# Models that no stream uses are kept for the next call, up to so many (6 MB a grammar).


@dataclass(frozen=True, kw_only=True)
class PocketsphinxOptions:
    """What to listen for.

    Attributes:
        grammar: a JSGF grammar; all its public rules may be said.
        language_model: path of an n-gram model (ARPA or binary) instead; neither takes the
            bundled model for American English.
        dictionary: path of a pronouncing dictionary; none takes the bundled one.
        language: must begin with `en`: the bundled acoustic model hears English only.
        interim_results: whether to say what an utterance sounds like before its end.
        threshold: speech probability from which a voice counts as speech.
        min_speech_s: speech shorter than this is taken for a noise.
        min_silence_s: silence after which an utterance has ended.
        prefix_padding_s: audio before the first sound that belongs to the utterance.
    """

    grammar: str | None = None
    language_model: str | None = None
    dictionary: str | None = None
    language: str = "en"
    interim_results: bool = True
    threshold: float = 0.5
    min_speech_s: float = 0.064
    min_silence_s: float = 0.35
    prefix_padding_s: float = 0.3

    def __post_init__(self) -> None:
        """Check what does not need a model."""
        if self.grammar is not None and self.language_model is not None:
            raise ValueError("give a grammar or a language_model, not both")
        if self.language.partition("-")[0].lower() != "en":
            raise ValueError(f"language {self.language!r}: the bundled acoustic model is English")
        for name in ("language_model", "dictionary"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"{name}: there is no file {path}")
        self.endpointing()

    def endpointing(self) -> EndpointingOptions:
        """Return when a voice counts as speech."""
        return EndpointingOptions(
            activation_threshold=self.threshold,
            # Lower than a VAD's own: an utterance that is cut in two is lost to a grammar. Over
            # 288 sentences the longest dip below 0.35 was 0.32 s, below 0.15 it was 0.13 s.
            deactivation_threshold=min(self.threshold, max(self.threshold - 0.35, 0.05)),
            min_speech_s=self.min_speech_s,
            min_silence_s=self.min_silence_s,
            prefix_padding_s=self.prefix_padding_s,
        )


@dataclass(slots=True, eq=False)
class _Shared:
    """A model and how many streams use it."""

    model: SpeechModel
    users: int = 0


class _Session:
    def __init__(self, listener: Listener, shared: _Shared) -> None:
        self.listener = listener
        self._shared: _Shared | None = shared
        shared.users += 1

    def close(self) -> None:
        if self._shared is not None:
            self.listener.close()
            self._shared.users -= 1
            self._shared = None


class PocketsphinxEngine:
    """Hears English; see `PocketsphinxOptions`."""

    def __init__(self) -> None:
        """Prepare; `load` does the work."""
        self._models: dict[tuple[str | None, ...], _Shared] = {}
        self._dictionaries: dict[str | None, PronunciationDictionary] = {}
        self._parser: Decoder | None = None

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name="pocketsphinx",
            kind=EngineKind.STT,
            model="pocketsphinx-en-us",
            provider="cmusphinx",
            sample_rate=SAMPLE_RATE,
        )

    def load(self) -> None:
        """Load the bundled dictionary, and a decoder that checks grammars; hear a bit of silence.

        Raises:
            EngineConfigError: pocketsphinx's model files are not there.
        """
        pocketsphinx.set_loglevel("FATAL")  # It writes to the terminal otherwise.
        self._dictionary(None)
        self._parser = Decoder.for_words("yes Y EH S\n")
        self._parser.use_grammar(read_grammar(_TRIED_GRAMMAR).text)
        speaker = Speaker()
        self._parser.begin(speaker)
        self._parser.process(np.zeros(SAMPLE_RATE // 10, np.int16))
        self._parser.finish(speaker)

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream; the options are the fields of `PocketsphinxOptions`.

        Raises:
            EngineConfigError: an option is wrong; for a grammar it says where, or which words
                have no pronunciation.
        """
        wanted = read_options(self.info.name, PocketsphinxOptions, options)
        key = (wanted.grammar, wanted.language_model, wanted.dictionary)
        shared = self._models.pop(key, None) or _Shared(self._new_model(wanted))
        self._models[key] = shared
        self._forget_unused()
        listener = Listener(
            shared.model,
            wanted.endpointing(),
            language=wanted.language,
            interim_results=wanted.interim_results,
        )
        return _Session(listener, shared)

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[BaseException | None]:
        """Listen to one batch."""
        return run_each(items, _listen)

    def close(self) -> None:
        """Free all models."""
        self._models.clear()
        self._dictionaries.clear()
        self._parser = None

    def _new_model(self, wanted: PocketsphinxOptions) -> SpeechModel:
        if wanted.grammar is None:
            return LanguageModel(wanted.language_model, wanted.dictionary)
        try:
            grammar = read_grammar(wanted.grammar)
        except GrammarError as error:
            raise EngineConfigError(f"pocketsphinx: grammar: {error}") from error
        entries, missing = self._dictionary(wanted.dictionary).entries(grammar.words)
        if missing:
            raise EngineConfigError(
                f"pocketsphinx: grammar: no pronunciation for {', '.join(missing)}: spell it in "
                "known words, or give a dictionary that has it"
            )
        assert self._parser is not None, "a stream was opened before the engine was loaded"
        self._parser.parse(grammar.text)
        return GrammarModel(grammar.text, entries)

    def _dictionary(self, path: str | None) -> PronunciationDictionary:
        if path not in self._dictionaries:
            bundled = pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")
            try:
                self._dictionaries[path] = PronunciationDictionary(Path(path or bundled))
            except OSError as error:
                raise EngineConfigError(
                    f"pocketsphinx: can't read the dictionary {path or bundled}: {error.strerror}"
                ) from error
        return self._dictionaries[path]

    def _forget_unused(self) -> None:
        # Oldest first: `open` moves what it uses to the end.
        unused = [key for key, shared in self._models.items() if shared.users == 0]
        for key in unused[: max(0, len(self._models) - _MODELS_KEPT)]:
            del self._models[key]


def _listen(item: WorkItem) -> None:
    assert isinstance(item.session, _Session), "a session of another engine"
    for given in item.inputs:
        if item.cancelled():
            return
        item.session.listener.push(given, item.emit)
