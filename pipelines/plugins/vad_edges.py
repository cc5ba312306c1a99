"""Where speech begins and ends, exactly as livekit-agents' bundled VAD decides it. Pure.

The decisions are those of `livekit.agents.inference.vad` 1.8.9, kept apart from audio and model,
so that programs and turn detection behave the same whichever of the two they use.
(`pipelines.engines.endpointing` serves engines: it has no use for the durations told here.)
"""

from dataclasses import dataclass
from enum import Enum

_DEACTIVATION_GAP = 0.15
_LEAST_DEACTIVATION = 0.01
# Both from the bundled VAD.


@dataclass(frozen=True, kw_only=True)
class VADOptions:
    """When a voice counts as speech. Names and defaults are those of the bundled VAD.

    Attributes:
        activation_threshold: probability from which a window counts as speech.
        deactivation_threshold: probability down to which it stays speech once it began; None
            takes 0.15 less than the activation threshold, and at least 0.01.
        min_speech_duration: seconds of speech before it counts.
        min_silence_duration: seconds of silence before the speech has ended.
        prefix_padding_duration: seconds of audio before the speech that belong to its frames.
        max_buffered_speech: seconds of speech that are kept for its frames.
    """

    activation_threshold: float = 0.5
    deactivation_threshold: float | None = None
    min_speech_duration: float = 0.05
    min_silence_duration: float = 0.25
    prefix_padding_duration: float = 0.5
    max_buffered_speech: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what can't be meant."""
        if self.deactivation_threshold is not None and self.deactivation_threshold <= 0:
            raise ValueError("deactivation_threshold must be greater than 0")
        for name in (
            "min_speech_duration",
            "min_silence_duration",
            "prefix_padding_duration",
            "max_buffered_speech",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, and is {getattr(self, name)}")

    @property
    def silent_below(self) -> float:
        """The deactivation threshold, given or derived."""
        if self.deactivation_threshold is not None:
            return self.deactivation_threshold
        return max(self.activation_threshold - _DEACTIVATION_GAP, _LEAST_DEACTIVATION)


class Moment(Enum):
    """What happened with a window."""

    ANALYSED = "analysed"
    SPEECH_STARTED = "speech_started"
    SPEECH_ENDED = "speech_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A moment with the times that the events of livekit-agents carry, in seconds.

    `unbroken_speech_s` and `unbroken_silence_s` are those before the window was judged.
    """

    moment: Moment
    samples_index: int
    timestamp_s: float
    speech_s: float
    silence_s: float
    speaking: bool
    unbroken_speech_s: float = 0.0
    unbroken_silence_s: float = 0.0


class SpeechEdges:
    """Judges one window after the other."""

    def __init__(self, options: VADOptions) -> None:
        self.options = options
        self._samples_index = 0
        self._timestamp_s = 0.0
        self._speaking = False
        self._speech_s = 0.0
        self._silence_s = 0.0
        self._unbroken_speech_s = 0.0
        self._unbroken_silence_s = 0.0

    @property
    def idle(self) -> bool:
        """Whether the last window was silence outside speech: only padding need be kept."""
        return not self._speaking and self._unbroken_speech_s == 0.0

    def push(self, probability: float, samples: int, window_s: float) -> list[Happening]:
        """Take the next window, of `samples` at the engine's rate; return what happened."""
        self._samples_index += samples
        self._timestamp_s += window_s
        if self._speaking:
            self._speech_s += window_s
        else:
            self._silence_s += window_s
        analysed = self._happening(
            Moment.ANALYSED,
            unbroken_speech_s=self._unbroken_speech_s,
            unbroken_silence_s=self._unbroken_silence_s,
        )
        options = self.options
        if probability >= options.activation_threshold or (
            self._speaking and probability > options.silent_below
        ):
            self._unbroken_speech_s += window_s
            self._unbroken_silence_s = 0.0
            if not self._speaking and self._unbroken_speech_s >= options.min_speech_duration:
                return [analysed, self._start()]
        else:
            self._unbroken_silence_s += window_s
            self._unbroken_speech_s = 0.0
            if self._speaking and self._unbroken_silence_s >= options.min_silence_duration:
                return [analysed, self._end()]
        return [analysed]

    def _start(self) -> Happening:
        self._speaking = True
        self._silence_s = 0.0
        self._speech_s = self._unbroken_speech_s
        return self._happening(Moment.SPEECH_STARTED)

    def _end(self) -> Happening:
        self._speaking = False
        self._silence_s = self._unbroken_silence_s
        self._speech_s = max(0.0, self._speech_s - self._unbroken_silence_s)
        ended = self._happening(Moment.SPEECH_ENDED)
        self._speech_s = 0.0
        return ended

    def _happening(
        self, moment: Moment, *, unbroken_speech_s: float = 0.0, unbroken_silence_s: float = 0.0
    ) -> Happening:
        return Happening(
            moment=moment,
            samples_index=self._samples_index,
            timestamp_s=self._timestamp_s,
            speech_s=self._speech_s,
            silence_s=self._silence_s,
            speaking=self._speaking,
            unbroken_speech_s=unbroken_speech_s,
            unbroken_silence_s=unbroken_silence_s,
        )
