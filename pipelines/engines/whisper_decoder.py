"""Transcribes utterances of many streams together: one pass of the model for all of them."""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from voxray.pipelines.engines.base import Samples, Word
from voxray.pipelines.engines.silero_vad import SAMPLE_RATE
from voxray.pipelines.engines.whisper_model import LoadedModel

_FRAMES_PER_S = 100
# Of the mel spectrogram: a hop of 160 samples.
_FEWEST_SAMPLES = 1600
# The spectrogram mirrors the ends of what it is given, 200 samples at each.
_MOST_TOKENS = 224
# Whisper's own bound: half of its context.
_TOKENS, _TOKENS_PER_S = 32, 25
# Nobody says more than that. A model that repeats itself ends there, not after 224 tokens.
_LANGUAGE_IF_UNKNOWN = "en"

_OPENING, _CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - of many languages

_Features: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How an utterance is to be heard.

    Attributes:
        language: a code of Whisper's; None has the model find out.
        task: `transcribe`, or `translate` into English.
        prompt: text that comes before, for spelling and style.
        beam_size: alternatives that are followed; 1 takes the best token each time.
        word_times: whether each word gets its time.
    """

    language: str | None = None
    task: str = "transcribe"
    prompt: str = ""
    beam_size: int = 1
    word_times: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Samples at 16 kHz, up to 30 s, and how they are to be heard."""

    samples: Samples
    options: DecodeOptions

    @property
    def length_s(self) -> float:
        """Seconds of it."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Heard:
    """What the model makes of an utterance.

    Attributes:
        text: without spaces around it; may be empty.
        language: the code of the language that it was heard in.
        mean_logprob: mean logarithm of the tokens' probabilities.
        no_speech: probability that it is no speech at all.
        words: times in seconds since the utterance's first sample.
    """

    text: str
    language: str
    mean_logprob: float
    no_speech: float
    words: tuple[Word, ...] = ()

    @property
    def confidence(self) -> float:
        """Mean probability of a token, 0 to 1."""
        return min(1.0, math.exp(min(0.0, self.mean_logprob)))


class WhisperDecoder:
    """One model; used by one thread at a time."""

    def __init__(self, model: LoadedModel, *, window_s: float) -> None:
        self._whisper = model.whisper
        self._batch = model.batch
        self._times_words = model.times_words
        self._frames = round(window_s * _FRAMES_PER_S)
        self._multilingual = bool(self._whisper.model.is_multilingual)
        self._languages = frozenset(self._whisper.supported_languages)
        self._tokenizers: dict[tuple[str, str], Any] = {}
        self._suppressed: list[int] | None = None

    @property
    def batch(self) -> int:
        """Utterances that are decoded together at most."""
        return self._batch

    @property
    def times_words(self) -> bool:
        """Whether the model can tell the times of words."""
        return self._times_words

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that the model hears."""
        return self._languages

    def decode(self, utterances: Sequence[Utterance]) -> list[Heard | Exception]:
        """Return for each utterance what was heard, or what went wrong with it alone.

        Those that may share a pass of the model do, up to `batch`.
        """
        results: dict[int, Heard | Exception] = {}
        groups: dict[tuple[Any, ...], list[tuple[int, Utterance, list[int]]]] = {}
        for number, utterance in enumerate(utterances):
            try:
                prompt = self._prompt(utterance.options)
            except Exception as error:
                results[number] = error
                continue
            options = utterance.options
            # Prompts of one pass have one length, and one start is aligned to words.
            alike = (options.language, options.task) if options.word_times else ()
            key = (len(prompt), options.beam_size, alike)
            groups.setdefault(key, []).append((number, utterance, prompt))
        for group in groups.values():
            for start in range(0, len(group), self._batch):
                part = group[start : start + self._batch]
                heard = self._isolated([(utterance, prompt) for _, utterance, prompt in part])
                results.update(zip((number for number, _, _ in part), heard, strict=True))
        return [results[number] for number in range(len(utterances))]

    def decode_or_raise(self, utterances: Sequence[Utterance]) -> list[Heard]:
        """Decode alike utterances in one pass, however many; what goes wrong is raised."""
        return self._together([(each, self._prompt(each.options)) for each in utterances])

    def _isolated(self, part: list[tuple[Utterance, list[int]]]) -> list[Heard | Exception]:
        """Decode together; when that fails, in halves, until what fails is alone.

        A batch that is too large for the device's memory is heard in smaller ones this way.
        """
        try:
            return list(self._together(part))
        except Exception as error:
            if len(part) == 1:
                return [error]
        half = len(part) // 2
        return [*self._isolated(part[:half]), *self._isolated(part[half:])]

    def _together(self, part: list[tuple[Utterance, list[int]]]) -> list[Heard]:
        utterances = [utterance for utterance, _ in part]
        prompts = [list(prompt) for _, prompt in part]
        encoded = self._whisper.encode(np.stack([self._features(each) for each in utterances]))
        languages = self._find_languages(encoded, utterances, prompts)
        tokens = [_most_tokens(utterance.length_s) for utterance in utterances]
        options = utterances[0].options
        outcomes = self._whisper.model.generate(
            encoded,
            prompts,
            beam_size=options.beam_size,
            max_length=self._max_length(len(prompts[0]), max(tokens)),
            suppress_tokens=self._suppressed_tokens(),
            return_scores=True,
            return_no_speech_prob=True,
        )
        # Nobody hears more for the length of its neighbours.
        ids = [
            list(outcome.sequences_ids[0])[:most]
            for outcome, most in zip(outcomes, tokens, strict=True)
        ]
        heard = [
            self._heard(outcome, written, self._tokenizer(language, utterance.options.task))
            for outcome, written, language, utterance in zip(
                outcomes, ids, languages, utterances, strict=True
            )
        ]
        if options.word_times:
            return self._with_words(utterances, heard, ids, encoded)
        return heard

    def _features(self, utterance: Utterance) -> _Features:
        """Return the mel spectrogram, (mels, frames), filled up with nothing."""
        samples = utterance.samples.astype(np.float32) / 32768.0
        if len(samples) < _FEWEST_SAMPLES:
            samples = np.pad(samples, (0, _FEWEST_SAMPLES - len(samples)))
        features: _Features = self._whisper.feature_extractor(samples)[:, : self._frames]
        missing = self._frames - features.shape[1]
        return np.pad(features, ((0, 0), (0, missing))).astype(np.float32, copy=False)

    def _prompt(self, options: DecodeOptions) -> list[int]:
        tokenizer = self._tokenizer(options.language or _LANGUAGE_IF_UNKNOWN, options.task)
        before = tokenizer.encode(" " + options.prompt.strip()) if options.prompt.strip() else []
        prompt: list[int] = self._whisper.get_prompt(tokenizer, before, without_timestamps=True)
        return prompt

    def _find_languages(
        self, encoded: Any, utterances: Sequence[Utterance], prompts: list[list[int]]
    ) -> list[str]:
        """Return the language of each utterance; put it into the prompts where it was unknown."""
        languages = [each.options.language or _LANGUAGE_IF_UNKNOWN for each in utterances]
        unknown = [n for n, each in enumerate(utterances) if each.options.language is None]
        if not unknown or not self._multilingual:
            return languages
        found = self._whisper.model.detect_language(encoded)
        guess = self._whisper.hf_tokenizer.token_to_id(f"<|{_LANGUAGE_IF_UNKNOWN}|>")
        for number in unknown:
            token = found[number][0][0]
            languages[number] = token.strip("<|>")
            # From its end: the text before must not be touched.
            place = len(prompts[number]) - 1 - prompts[number][::-1].index(guess)
            prompts[number][place] = self._whisper.hf_tokenizer.token_to_id(token)
        return languages

    def _max_length(self, prompt: int, tokens: int) -> int:
        # CTranslate2 takes the length of the whole context, and writes half of it at most.
        context: int = self._whisper.max_length
        return min(context, max(2 * tokens, prompt + tokens))

    def _heard(self, outcome: Any, ids: list[int], tokenizer: Any) -> Heard:
        # The score is a mean over the tokens without the end, the probability counts it too.
        length = len(outcome.sequences_ids[0])
        mean = outcome.scores[0] * length / (length + 1)
        text = tokenizer.decode(ids).strip()
        return Heard(text, tokenizer.language_code, mean, outcome.no_speech_prob)

    def _with_words(
        self,
        utterances: Sequence[Utterance],
        heard: Sequence[Heard],
        ids: Sequence[list[int]],
        encoded: Any,
    ) -> list[Heard]:
        if len({each.language for each in heard}) > 1:
            # Found in one pass, but one start is aligned at a time: each of them again.
            return [
                self._with_words(
                    [utterance], [one], [tokens], self._whisper.encode(self._features(utterance))
                )[0]
                for utterance, one, tokens in zip(utterances, heard, ids, strict=True)
            ]
        tokenizer = self._tokenizer(heard[0].language, utterances[0].options.task)
        texts = [[token for token in tokens if token < tokenizer.eot] for tokens in ids]
        frames = [
            min(self._frames, math.ceil(utterance.length_s * _FRAMES_PER_S))
            for utterance in utterances
        ]
        aligned = self._whisper.find_alignment(tokenizer, texts, encoded, frames)
        return [
            Heard(one.text, one.language, one.mean_logprob, one.no_speech, _words(words))
            for one, words in zip(heard, aligned, strict=True)
        ]

    def _tokenizer(self, language: str, task: str) -> Any:
        key = (language, task)
        if key not in self._tokenizers:
            # By its name: the package is an extra, which the model's loading has imported.
            faster_whisper = importlib.import_module("faster_whisper.tokenizer")
            self._tokenizers[key] = faster_whisper.Tokenizer(
                self._whisper.hf_tokenizer, self._multilingual, task, language
            )
        return self._tokenizers[key]

    def _suppressed_tokens(self) -> list[int]:
        if self._suppressed is None:
            tokenizer = self._tokenizer(_LANGUAGE_IF_UNKNOWN, "transcribe")
            control = (
                tokenizer.transcribe,
                tokenizer.translate,
                tokenizer.sot,
                tokenizer.sot_prev,
                tokenizer.sot_lm,
                tokenizer.no_speech,
            )
            known = {token for token in control if token is not None}
            self._suppressed = sorted(known | set(tokenizer.non_speech_tokens))
        return self._suppressed


def _most_tokens(length_s: float) -> int:
    return min(_MOST_TOKENS, _TOKENS + math.ceil(_TOKENS_PER_S * length_s))


def _words(found: list[dict[str, Any]]) -> tuple[Word, ...]:
    # Punctuation joins the word that it belongs to.
    importlib.import_module("faster_whisper.transcribe").merge_punctuations(
        found, _OPENING, _CLOSING
    )
    return tuple(
        Word(
            text=word["word"].strip(),
            start_s=float(word["start"]),
            end_s=float(word["end"]),
            confidence=min(1.0, max(0.0, float(word["probability"]))),
        )
        for word in found
        if word["word"].strip()
    )
