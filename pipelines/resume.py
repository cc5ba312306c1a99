"""What a stream has said already, so that it is not said twice after it was reopened; pure."""

from dataclasses import replace
from typing import TypeAlias

from voxray.pipelines.audio import BYTES_PER_SAMPLE, pcm_to_samples
from voxray.pipelines.engines.base import (
    ProbabilityOutput,
    SpeechEdgeOutput,
    SpeechOutput,
    TranscriptOutput,
    TurnOutput,
)
from voxray.pipelines.wire.messages import Speech

HeardOutput: TypeAlias = ProbabilityOutput | SpeechEdgeOutput | TranscriptOutput | TurnOutput

_EXACT_S = 1e-6
# Far below a sample, far above what sums of seconds are off: times that did not move stay exact.
_SAME_S = 0.005
# Questions about one moment: less than the shortest frame between them.


class SpeechResume:
    """How much speech was handed out since the last mark.

    A reopened stream is given its text again from the mark on; engines say the same text the
    same way, so as many samples are skipped as were handed out.
    """

    def __init__(self) -> None:
        # All in samples since the present attachment opened.
        self._delivered = 0
        self._marked = 0

    def reopened(self) -> None:
        """Note that the text is given again, from the mark on, to a stream that starts at 0."""
        self._delivered -= self._marked
        self._marked = 0

    def marked(self) -> None:
        """Note that the text so far will not be given again: all of it was said."""
        self._marked = self._delivered

    def fresh(self, message: Speech) -> bytes:
        """Return the part of the speech that was not handed out; it counts as handed out now."""
        skipped = max(self._delivered - message.first_sample, 0)
        pcm = message.pcm[skipped * BYTES_PER_SAMPLE :]
        self._delivered = max(
            self._delivered, message.first_sample + len(message.pcm) // BYTES_PER_SAMPLE
        )
        return pcm


class HeardResume:
    """What a listening stream has told: moves times to the first opening, drops what is repeated.

    Edges repeat when an utterance is heard again, and an answer about the turn when it was
    told and the flush that asked for it was not acknowledged.
    """

    def __init__(self) -> None:
        self._speaking = False
        self._turn_told_s = -1.0
        # End of the transcript that was told of the speech that has not ended yet.
        self._final_end_s: float | None = None
        self._last_window = 0

    def reopened(self) -> SpeechEdgeOutput | None:
        """Note that another replica goes on; return the edge that the last one still owed.

        Its transcript settled the speech, so that nobody hears it again to tell its end.
        """
        if not self._speaking or self._final_end_s is None:
            return None
        self._speaking = False
        return SpeechEdgeOutput(speaking=False, at_s=self._final_end_s)

    def place(self, output: HeardOutput, *, shift_s: float, sample_rate: int) -> HeardOutput | None:
        """Return the result in the time of the first opening, or None if it says nothing new.

        Args:
            output: a result, in the time of the present attachment.
            shift_s: seconds from the first opening to the present attachment's.
            sample_rate: Hz of sample counts.
        """
        if abs(shift_s) < _EXACT_S:
            shift_s = 0.0
        match output:
            case ProbabilityOutput():
                end = output.end_sample + round(shift_s * sample_rate)
                if end <= self._last_window:
                    return None
                self._last_window = end
                return replace(output, end_sample=end)
            case SpeechEdgeOutput(speaking=speaking):
                if speaking == self._speaking:
                    return None
                self._speaking = speaking
                self._final_end_s = None
                return replace(output, at_s=output.at_s + shift_s)
            case TranscriptOutput():
                placed = _moved(output, shift_s)
                self._final_end_s = placed.end_s if output.final else None
                return placed
            case TurnOutput():
                at_s = output.at_s + shift_s
                told = at_s <= self._turn_told_s + _SAME_S
                self._turn_told_s = max(at_s, self._turn_told_s)
                return None if told else replace(output, at_s=at_s)


def _moved(output: TranscriptOutput, shift_s: float) -> TranscriptOutput:
    words = output.words
    if words and shift_s:
        words = tuple(
            replace(word, start_s=word.start_s + shift_s, end_s=word.end_s + shift_s)
            for word in words
        )
    return replace(
        output, start_s=output.start_s + shift_s, end_s=output.end_s + shift_s, words=words
    )


def told_at_s(output: HeardOutput, sample_rate: int) -> float:
    """Return the end of what a result is about, in seconds since its stream opened."""
    match output:
        case ProbabilityOutput(end_sample=end_sample):
            return end_sample / sample_rate
        case SpeechEdgeOutput(at_s=at_s) | TurnOutput(at_s=at_s):
            return at_s
        case TranscriptOutput(end_s=end_s):
            return end_s


def speech_output(pcm: bytes) -> SpeechOutput:
    """Return speech as it came over the wire as an engine's output."""
    return SpeechOutput(pcm_to_samples(pcm))
