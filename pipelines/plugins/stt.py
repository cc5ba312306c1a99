"""`voxray.STT`: speech recognition from the shared engine, for any livekit-agents program."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never

from livekit import rtc
from livekit.agents import stt
from livekit.agents.language import LanguageCode
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)
from livekit.agents.utils import AudioBuffer, is_given, shortuuid
from livekit.agents.utils.audio import calculate_audio_duration

from voxray.base.errors import StreamGivenUpError, VoxrayError
from voxray.pipelines.engines.base import TranscriptOutput
from voxray.pipelines.input_log import Frame
from voxray.pipelines.plugins.exchange import exchange, opened, outputs
from voxray.pipelines.plugins.failures import api_error
from voxray.pipelines.plugins.frames import mono_pcm
from voxray.pipelines.plugins.shared import SharedEngine
from voxray.pipelines.plugins.stt_events import SpeechEvents, StreamTimes, speech_data
from voxray.pipelines.plugins.stt_options import STTOptions, read_grammar
from voxray.pipelines.plugins.stt_unsaid import Unsaid
from voxray.pipelines.streams import InferenceStream, StreamTerms


class STT(SharedEngine["SpeechStream"], stt.STT[Never]):
    """Speech recognition in voxray's shared inference.

    The last four options say where the engine itself finds utterances in the audio; None
    takes its own. A session with a VAD asks for the transcript before that.

    Args:
        grammar: what can be said, as JSGF text or the `Path` of a JSGF file; without one the
            engine takes dictation. It is checked by the engine: a wrong one fails the first
            stream with an `APIStatusError` that is not tried again.
        language_model: path of an n-gram model instead, where the engine runs.
        dictionary: path of a pronouncing dictionary, where the engine runs.
        language: what is spoken; None leaves it to the engine.
        interim_results: whether transcripts are told before they are certain.
        activation_threshold: probability from which audio counts as speech.
        min_speech_duration: seconds of speech before it counts.
        min_silence_duration: seconds of silence after which an utterance has ended.
        prefix_padding_duration: seconds before the speech that belong to it.
        engine: name of an engine, or `stt` for the default one.
        engine_options: further options that the engine understands, by its own names.

    Raises:
        EngineConfigError: the grammar's file can't be read.
    """

    def __init__(  # noqa: PLR0913 - one keyword an option, as every plugin of livekit-agents
        self,
        *,
        grammar: str | Path | None = None,
        language_model: str | Path | None = None,
        dictionary: str | Path | None = None,
        language: str | None = "en",
        interim_results: bool = True,
        activation_threshold: float | None = None,
        min_speech_duration: float | None = None,
        min_silence_duration: float | None = None,
        prefix_padding_duration: float | None = None,
        engine: str = "stt",
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; the engine is asked for when the first audio comes."""
        SharedEngine.__init__(self, engine)
        stt.STT.__init__(
            self,
            capabilities=stt.STTCapabilities(
                streaming=True,
                interim_results=interim_results,
                aligned_transcript="chunk",
                offline_recognize=True,
                # The session asks for the final transcript as soon as its VAD hears the end: the
                # engine needn't wait for a silence of its own, and the turn ends that much sooner.
                manual_flush=True,
            ),
        )
        self._options = STTOptions(
            grammar=read_grammar(grammar),
            language_model=None if language_model is None else str(language_model),
            dictionary=None if dictionary is None else str(dictionary),
            language=language,
            interim_results=interim_results,
            activation_threshold=activation_threshold,
            min_speech_duration=min_speech_duration,
            min_silence_duration=min_silence_duration,
            prefix_padding_duration=prefix_padding_duration,
            engine_options=dict(engine_options or {}),
        )

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> "SpeechStream":
        """Return a stream for the audio of one call."""
        stream = SpeechStream(self, self._engine, self._spoken(language), conn_options)
        self._streams.add(stream)
        return stream

    def update_options(  # noqa: PLR0913 - one keyword an option, as in the constructor
        self,
        *,
        grammar: NotGivenOr[str | Path | None] = NOT_GIVEN,
        language_model: NotGivenOr[str | Path | None] = NOT_GIVEN,
        dictionary: NotGivenOr[str | Path | None] = NOT_GIVEN,
        language: NotGivenOr[str | None] = NOT_GIVEN,
        interim_results: NotGivenOr[bool] = NOT_GIVEN,
        activation_threshold: NotGivenOr[float | None] = NOT_GIVEN,
        min_speech_duration: NotGivenOr[float | None] = NOT_GIVEN,
        min_silence_duration: NotGivenOr[float | None] = NOT_GIVEN,
        prefix_padding_duration: NotGivenOr[float | None] = NOT_GIVEN,
        engine_options: NotGivenOr[Mapping[str, Any]] = NOT_GIVEN,
    ) -> None:
        """Change options, for open streams too: what was said so far is finished with the old.

        Raises:
            EngineConfigError: the grammar's file can't be read; nothing is changed then.
        """
        given = {
            "grammar": read_grammar(grammar) if is_given(grammar) else NOT_GIVEN,
            "language_model": _path(language_model),
            "dictionary": _path(dictionary),
            "language": language,
            "interim_results": interim_results,
            "activation_threshold": activation_threshold,
            "min_speech_duration": min_speech_duration,
            "min_silence_duration": min_silence_duration,
            "prefix_padding_duration": prefix_padding_duration,
            "engine_options": engine_options,
        }
        changes: dict[str, Any] = {name: value for name, value in given.items() if is_given(value)}
        self._options = dataclasses.replace(self._options, **changes)
        self._capabilities.interim_results = self._options.interim_results
        for stream in self._streams:
            stream.update_options(**changes)

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        options = dataclasses.replace(self._spoken(language), interim_results=False)
        times = StreamTimes(offset_s=0.0, zero_at=0.0)
        terms = StreamTerms(recording_s=calculate_audio_duration(buffer))
        try:
            async with opened(
                self._engine, options.for_engine(), conn_options.timeout, terms=terms
            ) as stream:
                self.note_engine(stream.info)
                for frame in buffer if isinstance(buffer, list) else [buffer]:
                    stream.push_audio(mono_pcm(frame), frame.sample_rate)
                stream.end_input()
                finals = [
                    speech_data(output, times)
                    async for output in outputs(stream)
                    if isinstance(output, TranscriptOutput) and output.final and output.text
                ]
        except VoxrayError as error:
            raise api_error(error) from error
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT,
            request_id=shortuuid(),
            alternatives=[_joined(finals, options.language)],
        )

    def _spoken(self, language: NotGivenOr[str]) -> STTOptions:
        if not is_given(language):
            return self._options
        return dataclasses.replace(self._options, language=language)


class SpeechStream(stt.RecognizeStream):
    """The speech of one call: frames of any rate in, transcripts out."""

    class _Renew(stt.RecognizeStream._FlushSentinel):  # noqa: SLF001 - what its channel carries
        """In the input: go on with a new stream of the engine, with the options of then."""

    def __init__(
        self, parent: STT, engine: str, options: STTOptions, conn_options: APIConnectOptions
    ) -> None:
        super().__init__(stt=parent, conn_options=conn_options)
        self._parent = parent
        self._engine = engine
        self._options = options
        self._events = SpeechEvents(shortuuid(), interim_results=options.interim_results)
        # Since the engine's stream opened; livekit-agents counts the time before a retry itself.
        self._pushed_s = 0.0
        self._renewed_s = 0.0
        self._renew = False
        self._unsaid = Unsaid()
        self._again_s = 0.0

    def update_options(self, **changes: Any) -> None:
        """Change options: what was pushed so far is finished with the old ones."""
        self._options = dataclasses.replace(self._options, **changes)
        self._events.interim_results = self._options.interim_results
        if not self._input_ch.closed:
            self._input_ch.send_nowait(self._Renew())

    async def _run(self) -> None:
        self._pushed_s = self._renewed_s = 0.0
        # livekit-agents counts on from where it left it.
        self.start_time_offset += self._again_s
        self._again_s = 0.0
        self._renew = True
        try:
            while self._renew:
                self._renew = False
                self._renewed_s = self._pushed_s
                options = self._options.for_engine()
                asked_at = time.perf_counter()
                async with opened(self._engine, options, self._conn_options.timeout) as stream:
                    self._parent.note_engine(stream.info)
                    self._report_connection_acquired(time.perf_counter() - asked_at, False)
                    self._say_again(stream)
                    await exchange("stt", self._feed(stream), self._listen(stream))
                self._unsaid.clear()
        except StreamGivenUpError as error:
            # Not again: what was said may be what replicas fail on.
            self._unsaid.clear()
            raise api_error(error) from error
        except VoxrayError as error:
            raise api_error(error) from error

    def _say_again(self, stream: InferenceStream) -> None:
        """Give a new stream what the lost one left without a transcript."""
        if not self._unsaid:
            return
        again_s = self._unsaid.begin_again()
        self._pushed_s = again_s
        self.start_time = time.time() - again_s
        # livekit-agents has moved it to the moment of this attempt; the audio began before.
        self._again_s = min(again_s, self.start_time_offset)
        self.start_time_offset -= self._again_s
        for item in self._unsaid:
            if isinstance(item, Frame):
                stream.push_audio(item.pcm, item.rate)
            else:
                stream.flush()

    async def _feed(self, stream: InferenceStream) -> None:
        async for item in self._input_ch:
            if isinstance(item, rtc.AudioFrame):
                self._push(stream, item)
            elif isinstance(item, self._Renew):
                self._renew = True
                break
            elif not (self._input_ch.closed and self._input_ch.empty()):
                # Each is answered by a final transcript, if need be without words. The one that
                # livekit-agents puts before the end asks for nothing that the end does not.
                self._unsaid.flush()
                stream.flush()
        stream.end_input()

    def _push(self, stream: InferenceStream, frame: rtc.AudioFrame) -> None:
        if self._pushed_s == 0.0:
            # The engine's zero, for the wall-clock times of events.
            self.start_time = time.time() - frame.duration
        self._pushed_s += frame.duration
        pcm = mono_pcm(frame)
        # Kept first: a stream that has just ended takes no more.
        self._unsaid.push(Frame(pcm, frame.sample_rate))
        stream.push_audio(pcm, frame.sample_rate)
        self._send(self._events.heard(frame.duration))

    async def _listen(self, stream: InferenceStream) -> None:
        async for output in outputs(stream):
            times = StreamTimes(
                offset_s=self.start_time_offset + self._renewed_s,
                zero_at=self.start_time + self._renewed_s,
            )
            if isinstance(output, TranscriptOutput) and output.final:
                self._unsaid.said(output.end_s)
            self._send(self._events.take(output, times))
        self._send(self._events.bill())

    def _send(self, events: list[stt.SpeechEvent]) -> None:
        for event in events:
            self._event_ch.send_nowait(event)


def _path(path: NotGivenOr[str | Path | None]) -> NotGivenOr[str | None]:
    return str(path) if isinstance(path, Path) else path


def _joined(finals: list[stt.SpeechData], language: str | None) -> stt.SpeechData:
    if not finals:
        return stt.SpeechData(language=LanguageCode(language or ""), text="")
    return dataclasses.replace(
        finals[0],
        text=" ".join(final.text for final in finals),
        end_time=finals[-1].end_time,
        confidence=min(final.confidence for final in finals),
    )
