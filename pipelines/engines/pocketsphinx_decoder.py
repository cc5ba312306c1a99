"""One pocketsphinx decoder, typed, silent, and ready to change speakers between utterances."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pocketsphinx

from voxray.base.errors import EngineConfigError
from voxray.pipelines.engines.base import Samples
from voxray.pipelines.engines.jsgf import TOP_RULE

_INITIAL_MEAN = (40.0, 3.0, -1.0)
# Of the bundled acoustic model (`-cmninit` in its feat.params); the further ones are 0.
_INITIAL_WEIGHT = 500
# Frames of 10 ms that the mean counts for when it is set (CMN_WIN in pocketsphinx's cmn_live.c).
_COMMON = {
    "loglevel": "FATAL",
    # Noise of one bit: digital silence (a muted microphone, speech synthesis) has no logarithm
    # and spoils the estimate of the channel: 160 of 176 test sentences right without, 169 with.
    "dither": True,
    # The lattice pass truncates what a grammar heard; without it there is no confidence.
    "bestpath": False,
}
_PIECE = 1600
# Samples that are heard at once: 0.1 s, 1 to 20 ms of work.
# Wider than the defaults (1e-48, 7e-29): 174 of 176 instead of 172, at the same cost.
_GRAMMAR_BEAMS = {"beam": 1e-60, "wbeam": 1e-40, "pbeam": 1e-60}


@dataclass(slots=True)
class Speaker:
    """What is learnt about one speaker: the cepstral mean of the voice and its channel."""

    cepstral_mean: str | None = None


class Decoder:
    """A decoder; used by one thread at a time."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._in_utterance = False

    @classmethod
    def for_words(cls, dictionary: str) -> "Decoder":
        """Return a decoder with a dictionary, given as text, and no search yet.

        Raises:
            EngineConfigError: pocketsphinx's model files are not usable.
        """
        # pocketsphinx reads dictionaries from files only.
        with tempfile.TemporaryDirectory(prefix="voxray-") as folder:
            path = Path(folder) / "words.dict"
            path.write_text(dictionary, encoding="utf-8")
            return cls(_create(lm=None, dict=str(path), **_GRAMMAR_BEAMS))

    @classmethod
    def for_language_model(cls, language_model: str | None, dictionary: str | None) -> "Decoder":
        """Return a decoder with a language model; None takes the bundled files.

        Raises:
            EngineConfigError: a file is not what it should be.
        """
        files = {"lm": language_model, "dict": dictionary}
        return cls(_create(**{name: path for name, path in files.items() if path is not None}))

    def parse(self, grammar: str) -> Any:
        """Return a grammar that has a `TOP_RULE` as pocketsphinx's state graph.

        Raises:
            EngineConfigError: pocketsphinx does not accept it.
        """
        try:
            return self._native.parse_jsgf(grammar, TOP_RULE)
        except (RuntimeError, ValueError) as error:
            raise EngineConfigError(f"pocketsphinx: the grammar can't be used: {error}") from error

    def use_grammar(self, grammar: str) -> None:
        """Search in a grammar from now on.

        Raises:
            EngineConfigError: pocketsphinx does not accept it.
        """
        graph = self.parse(grammar)
        try:
            self._native.add_fsg("grammar", graph)
            self._native.activate_search("grammar")
        except (RuntimeError, ValueError) as error:
            raise EngineConfigError(f"pocketsphinx: the grammar can't be used: {error}") from error

    def begin(self, speaker: Speaker) -> None:
        """Begin an utterance; one that was begun before and not finished is forgotten."""
        self.abandon()
        # Another speaker used the decoder before: set the mean of this one, or the model's own.
        self._native.set_cmn(speaker.cepstral_mean or _written(_INITIAL_MEAN))
        self._native.start_utt()
        self._in_utterance = True

    def process(self, samples: Samples) -> None:
        """Hear samples of the utterance, at 16 kHz."""
        # pocketsphinx keeps the interpreter lock: in one piece, a long utterance would stop the
        # event loop of the process, and with it all other streams, for a second and more.
        for start in range(0, len(samples), _PIECE):
            self._native.process_raw(samples[start : start + _PIECE].tobytes())

    def heard(self) -> str:
        """Return the best guess at the utterance."""
        hypothesis = self._native.hyp()
        return "" if hypothesis is None else str(hypothesis.hypstr)

    def finish(self, speaker: Speaker) -> str:
        """End the utterance; return what was said, and learn the speaker by it."""
        self.abandon()
        learnt = str(self._native.get_cmn(True))
        frames = int(self._native.n_frames())
        if speaker.cepstral_mean is None and frames > 0:
            learnt = _without_initial(learnt, frames)
        speaker.cepstral_mean = learnt
        return self.heard()

    def abandon(self) -> None:
        """End the utterance, if one was begun."""
        if self._in_utterance:
            self._in_utterance = False
            self._native.end_utt()


def _without_initial(mean: str, frames: int) -> str:
    """Take the model's own mean out of one that a first utterance was averaged into.

    With both, 308 of 330 first sentences are heard right the second time; with what is left, 323.
    """
    values = [float(value) for value in mean.split(",")]
    initial = [*_INITIAL_MEAN, *[0.0] * (len(values) - len(_INITIAL_MEAN))]
    return _written(
        value + (value - start) * _INITIAL_WEIGHT / frames
        for value, start in zip(values, initial, strict=True)
    )


def _written(mean: Iterable[float]) -> str:
    return ",".join(f"{value:.5f}" for value in mean)


def _create(**options: Any) -> Any:
    try:
        return pocketsphinx.Decoder(**_COMMON, **options)
    except (RuntimeError, ValueError) as error:
        files = ", ".join(str(value) for name, value in options.items() if name in ("lm", "dict"))
        raise EngineConfigError(
            f"pocketsphinx: a model can't be loaded ({files or 'the bundled one'}): {error}"
        ) from error
