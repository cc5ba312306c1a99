"""Speech to text by Whisper, on a GPU or a CPU: the utterances of all calls are heard together.

Each stream finds the ends of its utterances itself, with the Silero model. Those that ended
since the last batch go through the model in one pass, and what is said up to now by those who
still speak follows, as far as the budget for interim results allows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxray.base.errors import EngineConfigError
from voxray.base.timing import Clock, SystemClock
from voxray.pipelines.engines.base import EngineInfo, EngineKind, EngineSession, WorkItem
from voxray.pipelines.engines.endpointing import EndpointingOptions
from voxray.pipelines.engines.interim_budget import InterimBudget
from voxray.pipelines.engines.options import read_options
from voxray.pipelines.engines.silero_vad import SAMPLE_RATE
from voxray.pipelines.engines.utterance_cutter import LONGEST_S
from voxray.pipelines.engines.whisper_decoder import DecodeOptions, Utterance, WhisperDecoder
from voxray.pipelines.engines.whisper_ears import EarOptions, Ears
from voxray.pipelines.engines.whisper_model import WhisperSettings, load_model, why_not

__all__ = ["WhisperEngine", "WhisperOptions"]

_TASKS = ("transcribe", "translate")
_LONGEST_PROMPT = 2000
# Characters; Whisper takes 223 tokens of it, the last ones.
_TEST_S = 0.5
_LONGEST_S = 25.0
# A host keeps 30 s of a call: an utterance of this length is still there as a whole when the
# replica is lost while it hears it.


@dataclass(frozen=True, kw_only=True)
class WhisperOptions:
    """How a stream is to be heard.

    Attributes:
        language: code of the language (`de`, `pt-BR`); empty has the model find out, for each
            utterance, which takes longer.
        task: `transcribe`, or `translate` into English.
        prompt: text with names and words as they are to be spelled.
        beam_size: alternatives that are followed for a final transcript; 5 takes about twice the
            time of 1 and is a little better.
        word_times: whether each word of a final transcript gets its time.
        interim_results: whether to say what an utterance sounds like before its end.
        interim_interval_s: seconds of speech between interim results, if there is time for them.
        no_speech_threshold: probability of no speech from which unsure words are dropped.
        max_utterance_s: an utterance that is longer is heard in parts; 25 if not given.
        threshold: speech probability from which a voice counts as speech.
        min_speech_s: speech shorter than this is taken for a noise.
        min_silence_s: silence after which an utterance has ended.
        prefix_padding_s: audio before the first sound that belongs to the utterance.
    """

    language: str = "en"
    task: str = "transcribe"
    prompt: str = ""
    beam_size: int = 1
    word_times: bool = False
    interim_results: bool = True
    interim_interval_s: float = 1.0
    no_speech_threshold: float = 0.6
    max_utterance_s: float | None = None
    threshold: float = 0.5
    min_speech_s: float = 0.1
    min_silence_s: float = 0.4
    prefix_padding_s: float = 0.3

    def __post_init__(self) -> None:
        """Check what does not need the model."""
        if self.task not in _TASKS:
            raise ValueError(f"task must be transcribe or translate, not {self.task!r}")
        if not 1 <= self.beam_size <= 10:
            raise ValueError(f"beam_size must be 1 to 10, not {self.beam_size}")
        if len(self.prompt) > _LONGEST_PROMPT:
            raise ValueError(f"prompt has {len(self.prompt)} characters: {_LONGEST_PROMPT} at most")
        if not 0.2 <= self.interim_interval_s <= 60:
            raise ValueError("interim_interval_s must be 0.2 to 60 s")
        if not 0 <= self.no_speech_threshold <= 1:
            raise ValueError("no_speech_threshold must be 0 to 1")
        self.endpointing()

    def endpointing(self) -> EndpointingOptions:
        """Return when a voice counts as speech."""
        return EndpointingOptions(
            activation_threshold=self.threshold,
            deactivation_threshold=min(self.threshold, max(self.threshold - 0.15, 0.05)),
            min_speech_s=self.min_speech_s,
            min_silence_s=self.min_silence_s,
            prefix_padding_s=self.prefix_padding_s,
        )


class _Session:
    def __init__(self, ears: Ears) -> None:
        self.ears = ears

    def close(self) -> None:
        self.ears.close()


class WhisperEngine:
    """Hears what a Whisper model hears; see `WhisperSettings` and `WhisperOptions`."""

    def __init__(self, **settings: Any) -> None:
        """Prepare; `load` does the work.

        Args:
            **settings: the fields of `WhisperSettings`.

        Raises:
            EngineConfigError: a setting is unknown or has a wrong value.
        """
        self._settings = read_options("whisper", WhisperSettings, settings)
        self._clock: Clock = SystemClock()
        self._budget = InterimBudget(self._settings.interim_share)
        self._decoder: WhisperDecoder | None = None

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return EngineInfo(
            name="whisper",
            kind=EngineKind.STT,
            model=self._settings.name,
            provider="faster-whisper",
            sample_rate=SAMPLE_RATE,
            max_batch=256,
        )

    def load(self) -> None:
        """Load the model, and hear a moment of noise with it; on a GPU a whole batch of them.

        So a GPU whose memory is too small is found out now, not in a call.

        Raises:
            EngineConfigError: as `load_model`, or the model hears nothing.
        """
        model = load_model(self._settings)
        decoder = WhisperDecoder(model, window_s=self._settings.window_s)
        noise = np.random.default_rng(0).normal(0, 300, round(_TEST_S * SAMPLE_RATE))
        test = Utterance(noise.astype(np.int16), DecodeOptions())
        try:
            decoder.decode_or_raise([test] * (model.batch if model.device == "cuda" else 1))
        except Exception as error:
            reason = why_not(self._settings.model, model.device, error)
            raise EngineConfigError(reason) from error
        self._decoder = decoder

    def open(self, options: Mapping[str, Any]) -> EngineSession:
        """Start a stream; the options are the fields of `WhisperOptions`.

        Raises:
            EngineConfigError: an option is wrong, or the model does not know the language.
        """
        wanted = read_options("whisper", WhisperOptions, options)
        window_s = min(self._settings.window_s, LONGEST_S)
        longest_s = wanted.max_utterance_s or min(window_s, _LONGEST_S)
        if not 1 <= longest_s <= window_s:
            raise EngineConfigError(
                f"whisper: max_utterance_s must be 1 to {window_s:g} s, not {longest_s:g}"
            )
        if wanted.word_times and not self._loaded().times_words:
            raise EngineConfigError(
                f"whisper: the model {self._settings.name} can't tell the times of words: its "
                "config.json has no alignment_heads"
            )
        decode = DecodeOptions(
            language=self._language(wanted.language),
            task=wanted.task,
            prompt=wanted.prompt,
            beam_size=wanted.beam_size,
            word_times=wanted.word_times,
        )
        ears = Ears(
            EarOptions(
                decode=decode,
                endpointing=wanted.endpointing(),
                longest_s=longest_s,
                interim_every_s=wanted.interim_interval_s if wanted.interim_results else 0.0,
                no_speech=wanted.no_speech_threshold,
            )
        )
        return _Session(ears)

    def run_batch(self, items: Sequence[WorkItem]) -> Sequence[BaseException | None]:
        """Listen to one batch."""
        errors: list[BaseException | None] = [_listen(item) for item in items]
        self._hear_finals(items, errors)
        self._hear_interims(items, errors)
        return errors

    def close(self) -> None:
        """Free the model. Idempotent."""
        self._decoder = None

    def _hear_finals(self, items: Sequence[WorkItem], errors: list[BaseException | None]) -> None:
        decoder = self._loaded()
        waiting = [
            (number, pending)
            for number, item in enumerate(items)
            if errors[number] is None and not item.cancelled()
            for pending in _ears(item).pending
        ]
        # Told part by part: who is in the first one does not wait for the last.
        for start in range(0, len(waiting), decoder.batch):
            part = waiting[start : start + decoder.batch]
            heard = decoder.decode([pending.audio for _, pending in part])
            for (number, pending), result in zip(part, heard, strict=True):
                if isinstance(result, Exception):
                    errors[number] = errors[number] or result
                else:
                    pending.heard = result
            for number in dict.fromkeys(number for number, _ in part):
                if errors[number] is None:
                    _ears(items[number]).tell(items[number].emit)

    def _hear_interims(self, items: Sequence[WorkItem], errors: list[BaseException | None]) -> None:
        decoder = self._loaded()
        overdue: list[tuple[float, WorkItem]] = []
        for number, item in enumerate(items):
            late_s = _ears(item).interim_overdue_s
            if late_s is not None and errors[number] is None and not item.cancelled():
                overdue.append((late_s, item))
        now_s = self._clock.monotonic()
        allowed = min(decoder.batch, self._budget.allowed(len(overdue), now_s))
        if not allowed:
            return
        overdue.sort(key=lambda each: each[0], reverse=True)
        chosen = [item for _, item in overdue[:allowed]]
        heard = decoder.decode([_ears(item).interim_audio() for item in chosen])
        self._budget.spent(len(chosen), self._clock.monotonic() - now_s)
        for item, result in zip(chosen, heard, strict=True):
            # An utterance that can't be heard is told as such when it ends.
            if not isinstance(result, Exception):
                _ears(item).interim_heard(result, item.emit)

    def _language(self, language: str) -> str | None:
        code = language.partition("-")[0].lower()
        known = self._loaded().languages
        if code in ("", "auto", "multi"):
            return None if len(known) > 1 else "en"
        if code not in known:
            kind = "it hears English only" if known == {"en"} else f"it knows {len(known)} others"
            raise EngineConfigError(
                f"whisper: the model {self._settings.name} does not hear {language!r}: {kind}"
            )
        return code

    def _loaded(self) -> WhisperDecoder:
        if self._decoder is None:
            raise RuntimeError("the engine was used before its load, or after its close")
        return self._decoder


def _listen(item: WorkItem) -> BaseException | None:
    ears = _ears(item)
    try:
        for given in item.inputs:
            if item.cancelled():
                break
            ears.push(given)
    except Exception as error:
        return error
    ears.tell(item.emit)
    return None


def _ears(item: WorkItem) -> Ears:
    assert isinstance(item.session, _Session), "a session of another engine"
    return item.session.ears
