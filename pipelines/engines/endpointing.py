"""Where speech begins and ends, from the probabilities of a voice activity model. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

_EPSILON_S = 1e-6
# Sums of window lengths are floats: 11 windows of 32 ms must count as 0.352 s.


@dataclass(frozen=True, kw_only=True)
class EndpointingOptions:
    """When a voice counts as speech. The defaults of the first four are LiveKit's own.

    Attributes:
        activation_threshold: probability from which a window counts as speech.
        deactivation_threshold: probability below which it is silence again once speech began;
            lower than the former, so that a voice that trails off is not cut.
        min_speech_s: speech shorter than this is taken for a noise.
        min_silence_s: a pause shorter than this belongs to the speech.
        prefix_padding_s: audio before the first speech window that belongs to the utterance.
    """

    activation_threshold: float = 0.5
    deactivation_threshold: float = 0.35
    min_speech_s: float = 0.05
    min_silence_s: float = 0.25
    prefix_padding_s: float = 0.5

    def __post_init__(self) -> None:
        """Check the values against each other."""
        if not 0 < self.deactivation_threshold <= self.activation_threshold <= 1:
            raise ValueError(
                "thresholds must hold 0 < deactivation <= activation <= 1, not "
                f"{self.deactivation_threshold} and {self.activation_threshold}"
            )
        for name in ("min_speech_s", "min_silence_s", "prefix_padding_s"):
            if not 0 <= getattr(self, name) <= 60:
                raise ValueError(f"{name} must be 0 to 60 s, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `at_s`; its audio is wanted from `from_s`, which is earlier by the padding.

    Both in seconds since the stream opened. It is told `min_speech_s` late.
    """

    at_s: float
    from_s: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Speech ended at `at_s`, in seconds since the stream opened; told `min_silence_s` late."""

    at_s: float


SpeechEdge: TypeAlias = SpeechStarted | SpeechEnded


class Endpointer:
    """Turns one probability a window into the edges of speech, with hysteresis."""

    def __init__(self, options: EndpointingOptions) -> None:
        self._options = options
        self._now_s = 0.0
        self._speech_s = 0.0
        self._silence_s = 0.0
        self._speaking = False
        self._last_end_s = 0.0

    @property
    def speaking(self) -> bool:
        """Whether speech began and has not ended."""
        return self._speaking

    @property
    def now_s(self) -> float:
        """Seconds of audio seen since the stream opened."""
        return self._now_s

    @property
    def speech_s(self) -> float:
        """Seconds of unbroken speech up to now."""
        return self._speech_s

    @property
    def silence_s(self) -> float:
        """Seconds of unbroken silence up to now."""
        return self._silence_s

    def push(self, probability: float, window_s: float) -> SpeechEdge | None:
        """Take the next window; return the edge that is certain now, if any."""
        self._now_s += window_s
        options = self._options
        voiced = probability >= options.activation_threshold or (
            self._speaking and probability > options.deactivation_threshold
        )
        if voiced:
            self._speech_s += window_s
            self._silence_s = 0.0
            if not self._speaking and self._speech_s >= options.min_speech_s - _EPSILON_S:
                return self._start()
            return None
        self._silence_s += window_s
        self._speech_s = 0.0
        if self._speaking and self._silence_s >= options.min_silence_s - _EPSILON_S:
            return self._end()
        return None

    def flush(self) -> SpeechEnded | None:
        """End the speech now, if there is any; time goes on."""
        ended = self._end() if self._speaking else None
        self._speech_s = self._silence_s = 0.0
        return ended

    def _start(self) -> SpeechStarted:
        self._speaking = True
        at_s = self._now_s - self._speech_s
        # The padding never reaches into the speech before: those words were transcribed.
        from_s = max(self._last_end_s, at_s - self._options.prefix_padding_s, 0.0)
        return SpeechStarted(at_s, from_s)

    def _end(self) -> SpeechEnded:
        self._speaking = False
        at_s = self._now_s - self._silence_s
        self._last_end_s = at_s
        return SpeechEnded(at_s)
