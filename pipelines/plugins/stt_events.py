"""From the results of a speech engine to the events of livekit-agents. Pure."""

from dataclasses import dataclass

from livekit.agents import stt
from livekit.agents.language import LanguageCode
from livekit.agents.types import TimedString

from voxray.pipelines.engines.base import EngineOutput, SpeechEdgeOutput, TranscriptOutput

_USAGE_EVERY_S = 5.0
# Seconds of audio between two usage events while nobody speaks, as the stock plugins do.


@dataclass(frozen=True, kw_only=True)
class StreamTimes:
    """Where the engine's time lies in the times of livekit-agents.

    Attributes:
        offset_s: seconds between the start of the session's input and the engine's zero.
        zero_at: Unix seconds of the engine's zero.
    """

    offset_s: float
    zero_at: float


class SpeechEvents:
    """Keeps the order that sessions rely on: start, interims, final, end.

    An engine that tells edges tells the final of an utterance before its end. For one that tells
    none, speech starts with its first words and ends with its final.
    """

    def __init__(self, request_id: str, *, interim_results: bool) -> None:
        self._request_id = request_id
        self.interim_results = interim_results
        """Whether transcripts are told before they are certain."""
        self._speaking = False
        self._end_is_told = False
        self._unbilled_s = 0.0

    def take(self, output: EngineOutput, times: StreamTimes) -> list[stt.SpeechEvent]:
        """Return the events of one result."""
        if isinstance(output, SpeechEdgeOutput):
            return self._edge(output, times)
        if isinstance(output, TranscriptOutput):
            return self._final(output, times) if output.final else self._interim(output, times)
        return []

    def heard(self, seconds: float) -> list[stt.SpeechEvent]:
        """Count audio that was handed to the engine; return its bill now and then."""
        self._unbilled_s += seconds
        return self.bill() if self._unbilled_s >= _USAGE_EVERY_S else []

    def bill(self) -> list[stt.SpeechEvent]:
        """Return the usage that was not told yet."""
        if self._unbilled_s == 0.0:
            return []
        usage = stt.RecognitionUsage(audio_duration=self._unbilled_s)
        self._unbilled_s = 0.0
        return [self._event(stt.SpeechEventType.RECOGNITION_USAGE, recognition_usage=usage)]

    def _edge(self, edge: SpeechEdgeOutput, times: StreamTimes) -> list[stt.SpeechEvent]:
        if not edge.speaking:
            return self._end(edge.at_s, times)
        started = self._start(edge.at_s, times)
        self._end_is_told = True
        return started

    def _interim(self, output: TranscriptOutput, times: StreamTimes) -> list[stt.SpeechEvent]:
        if not output.text or not self.interim_results:
            return []
        words = self._event(
            stt.SpeechEventType.INTERIM_TRANSCRIPT, alternatives=[speech_data(output, times)]
        )
        return [*self._start(output.start_s, times), words]

    def _final(self, output: TranscriptOutput, times: StreamTimes) -> list[stt.SpeechEvent]:
        started = self._start(output.start_s, times) if output.text else []
        words = self._event(
            stt.SpeechEventType.FINAL_TRANSCRIPT,
            # Also without words: a turn that is committed by hand waits for a final.
            alternatives=[speech_data(output, times)],
            speech_end_time=times.zero_at + output.end_s,
        )
        ended = [] if self._end_is_told else self._end(output.end_s, times)
        return [*started, words, *ended, *self.bill()]

    def _start(self, at_s: float, times: StreamTimes) -> list[stt.SpeechEvent]:
        if self._speaking:
            return []
        self._speaking = True
        return [
            self._event(stt.SpeechEventType.START_OF_SPEECH, speech_start_time=times.zero_at + at_s)
        ]

    def _end(self, at_s: float, times: StreamTimes) -> list[stt.SpeechEvent]:
        if not self._speaking:
            return []
        self._speaking = self._end_is_told = False
        return [
            self._event(stt.SpeechEventType.END_OF_SPEECH, speech_end_time=times.zero_at + at_s)
        ]

    def _event(
        self,
        kind: stt.SpeechEventType,
        *,
        alternatives: list[stt.SpeechData] | None = None,
        recognition_usage: stt.RecognitionUsage | None = None,
        speech_start_time: float | None = None,
        speech_end_time: float | None = None,
    ) -> stt.SpeechEvent:
        return stt.SpeechEvent(
            type=kind,
            request_id=self._request_id,
            alternatives=alternatives or [],
            recognition_usage=recognition_usage,
            speech_start_time=speech_start_time,
            speech_end_time=speech_end_time,
        )


def speech_data(output: TranscriptOutput, times: StreamTimes) -> stt.SpeechData:
    """Return a transcript with its times counted from the start of the session's input."""
    return stt.SpeechData(
        language=LanguageCode(output.language),
        text=output.text,
        start_time=output.start_s + times.offset_s,
        end_time=output.end_s + times.offset_s,
        confidence=output.confidence,
        words=[
            TimedString(
                word.text,
                start_time=word.start_s + times.offset_s,
                end_time=word.end_s + times.offset_s,
                confidence=word.confidence,
                start_time_offset=times.offset_s,
            )
            for word in output.words
        ]
        or None,
    )
