"""Speech models: what hears the utterances of all streams that listen for the same.

With a grammar an utterance decodes at about 0.012 of real time, so one decoder serves all its
streams: each utterance is kept and decoded when it ends. With a language model it takes 0.2, so
utterances are decoded while they are spoken, by a few decoders (95 MB each).
"""

from typing import Protocol

import numpy as np

from voxray.pipelines.engines.base import Samples
from voxray.pipelines.engines.pocketsphinx_decoder import Decoder, Speaker

STREAMING_DECODERS = 2
"""Utterances that a language model follows while they are spoken; the others wait for their end
or for a decoder to become free. Two are what one thread keeps up with beside other work."""


class Utterance(Protocol):
    """One utterance while it is heard; on the engine's thread."""

    def add(self, samples: Samples) -> None:
        """Take the next samples, at 16 kHz."""
        ...

    def interim(self) -> str:
        """Return what it sounds like so far."""
        ...

    def finish(self) -> str:
        """Return what was said; empty if it was nothing that the model knows."""
        ...

    def abandon(self) -> None:
        """Forget it. Safe from any thread while no other method runs."""
        ...


class SpeechModel(Protocol):
    """A grammar or a language model that hears; on the engine's thread."""

    def prepare(self) -> None:
        """Make what the first utterance needs.

        Raises:
            EngineConfigError: a file can't be used.
        """
        ...

    def begin(self, speaker: Speaker) -> Utterance:
        """Start to hear an utterance."""
        ...


class GrammarModel:
    """One decoder for all streams with the same grammar."""

    def __init__(self, grammar: str, dictionary: str) -> None:
        """Keep the grammar (with its `TOP_RULE`) and the dictionary of its words, as text."""
        self._grammar = grammar
        self._dictionary = dictionary
        self._decoder: Decoder | None = None

    def prepare(self) -> None:
        """Make the decoder: 6 MB and 50 ms."""
        self._ready()

    def begin(self, speaker: Speaker) -> Utterance:
        """Start to keep an utterance."""
        return _KeptUtterance(self, speaker)

    def decode(self, samples: Samples, speaker: Speaker) -> str:
        """Return what was said in a whole utterance, and learn the speaker by it."""
        decoder = self._ready()
        # The first utterance is heard twice: the first pass finds the channel, without which
        # every fifth sentence is heard wrong (see `Decoder.finish`).
        passes = 2 if speaker.cepstral_mean is None else 1
        heard = ""
        for _ in range(passes):
            decoder.begin(speaker)
            decoder.process(samples)
            heard = decoder.finish(speaker)
        return heard

    def decode_part(self, samples: Samples, speaker: Speaker) -> str:
        """Return what the beginning of an utterance sounds like; learn nothing."""
        decoder = self._ready()
        decoder.begin(speaker)
        decoder.process(samples)
        heard = decoder.heard()
        decoder.abandon()
        return heard

    def _ready(self) -> Decoder:
        if self._decoder is None:
            decoder = Decoder.for_words(self._dictionary)
            decoder.use_grammar(self._grammar)
            self._decoder = decoder
        return self._decoder


class _KeptUtterance:
    def __init__(self, model: GrammarModel, speaker: Speaker) -> None:
        self._model = model
        self._speaker = speaker
        self._chunks: list[Samples] = []

    def add(self, samples: Samples) -> None:
        self._chunks.append(samples)

    def interim(self) -> str:
        return self._model.decode_part(self._audio(), self._speaker)

    def finish(self) -> str:
        return self._model.decode(self._audio(), self._speaker)

    def abandon(self) -> None:
        self._chunks.clear()

    def _audio(self) -> Samples:
        # Kept as one piece, so that the next call joins less.
        self._chunks = [np.concatenate([np.empty(0, np.int16), *self._chunks])]
        return self._chunks[0]


class LanguageModel:
    """A few decoders for all streams with the same language model."""

    def __init__(self, language_model: str | None, dictionary: str | None) -> None:
        """Keep the paths; None takes what pocketsphinx brings for American English."""
        self._language_model = language_model
        self._dictionary = dictionary
        self._free: list[Decoder] = []
        self._made = 0
        self._late: Decoder | None = None

    def prepare(self) -> None:
        """Make the first decoder: 95 MB and 0.25 s."""
        if self._made == 0:
            self._free.append(self._make())

    def begin(self, speaker: Speaker) -> Utterance:
        """Start to hear an utterance."""
        return _FollowedUtterance(self, speaker)

    def acquire(self) -> Decoder | None:
        """Return a decoder to follow an utterance with, or None while all are taken."""
        if self._free:
            return self._free.pop()
        return self._make() if self._made < STREAMING_DECODERS else None

    def release(self, decoder: Decoder) -> None:
        """Give a decoder back. Safe from any thread."""
        self._free.append(decoder)

    def late(self) -> Decoder:
        """Return the decoder for utterances that ended before one was free."""
        if self._late is None:
            self._late = Decoder.for_language_model(self._language_model, self._dictionary)
        return self._late

    def _make(self) -> Decoder:
        decoder = Decoder.for_language_model(self._language_model, self._dictionary)
        self._made += 1
        return decoder


class _FollowedUtterance:
    def __init__(self, model: LanguageModel, speaker: Speaker) -> None:
        self._model = model
        self._speaker = speaker
        self._decoder: Decoder | None = None
        self._waiting: list[Samples] = []

    def add(self, samples: Samples) -> None:
        self._waiting.append(samples)
        if self._decoder is None:
            self._decoder = self._model.acquire()
            if self._decoder is not None:
                self._decoder.begin(self._speaker)
        if self._decoder is not None:
            self._catch_up(self._decoder)

    def interim(self) -> str:
        return self._decoder.heard() if self._decoder is not None else ""

    def finish(self) -> str:
        decoder = self._decoder
        if decoder is None:
            decoder = self._model.late()
            decoder.begin(self._speaker)
        self._catch_up(decoder)
        heard = decoder.finish(self._speaker)
        self.abandon()
        return heard

    def abandon(self) -> None:
        self._waiting.clear()
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            self._model.release(decoder)

    def _catch_up(self, decoder: Decoder) -> None:
        for samples in self._waiting:
            decoder.process(samples)
        self._waiting.clear()
