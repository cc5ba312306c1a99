"""`voxray.TTS`: speech synthesis from the shared engine, for any livekit-agents program."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never

from livekit import rtc
from livekit.agents import tts
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)
from livekit.agents.utils import is_given, shortuuid

from voxray.base.errors import VoxrayError
from voxray.pipelines.audio import samples_to_pcm
from voxray.pipelines.engines.base import Samples, SpeechOutput
from voxray.pipelines.plugins.exchange import opened, outputs
from voxray.pipelines.plugins.failures import api_error
from voxray.pipelines.plugins.frames import mono_frame
from voxray.pipelines.plugins.shared import SharedEngine
from voxray.pipelines.sentences import sentences

_SAMPLE_RATE = 22_050
# Hz; espeak-ng's and most Piper voices'.
_FRAME_MS = 100
# The emitter's largest frame; it begins with smaller ones, so the first audio is not held back.
_SILENCE_S = 0.01
# What a text without anything to speak (dashes, an ellipsis) sounds like.


@dataclass(frozen=True, kw_only=True)
class _Options:
    voice: str | None
    rate: int | None
    engine_options: Mapping[str, Any]

    def for_engine(self) -> dict[str, Any]:
        given = {"voice": self.voice, "rate": self.rate}
        named = {name: value for name, value in given.items() if value is not None}
        return named | dict(self.engine_options)


class TTS(SharedEngine["ChunkedStream"], tts.TTS[Never]):
    """Speech synthesis in voxray's shared inference; audio comes as it is made."""

    def __init__(
        self,
        *,
        voice: str | None = None,
        rate: int | None = None,
        sample_rate: int = _SAMPLE_RATE,
        engine: str = "tts",
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; the engine is asked for when there is something to say.

        Args:
            voice: name of a voice of the engine; None takes the engine's own.
            rate: words a minute; None takes the engine's own.
            sample_rate: Hz of the audio handed out; an engine of another rate is resampled.
            engine: name of an engine, or `tts` for the default one.
            engine_options: further options that the engine understands, by its own names.
        """
        SharedEngine.__init__(self, engine)
        tts.TTS.__init__(
            self,
            # The session cuts the text into sentences: the first is heard while others are made.
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=sample_rate,
            num_channels=1,
        )
        self._options = _Options(voice=voice, rate=rate, engine_options=dict(engine_options or {}))

    def update_options(
        self,
        *,
        voice: NotGivenOr[str | None] = NOT_GIVEN,
        rate: NotGivenOr[int | None] = NOT_GIVEN,
        engine_options: NotGivenOr[Mapping[str, Any]] = NOT_GIVEN,
    ) -> None:
        """Change options for what is said from now on."""
        given = {"voice": voice, "rate": rate, "engine_options": engine_options}
        changes: dict[str, Any] = {name: value for name, value in given.items() if is_given(value)}
        self._options = dataclasses.replace(self._options, **changes)

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> "ChunkedStream":
        """Return a stream with the speech of a text."""
        stream = ChunkedStream(self, text, self._engine, self._options, conn_options)
        self._streams.add(stream)
        return stream


class ChunkedStream(tts.ChunkedStream):
    """The speech of one text."""

    def __init__(
        self,
        parent: TTS,
        text: str,
        engine: str,
        options: _Options,
        conn_options: APIConnectOptions,
    ) -> None:
        super().__init__(tts=parent, input_text=text, conn_options=conn_options)
        self._parent = parent
        self._engine = engine
        self._options = options

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        rate = self._parent.sample_rate
        output_emitter.initialize(
            request_id=shortuuid(),
            sample_rate=rate,
            num_channels=1,
            mime_type="audio/pcm",
            frame_size_ms=_FRAME_MS,
        )
        made = False
        asked_at = time.perf_counter()
        try:
            async with opened(
                self._engine, self._options.for_engine(), self._conn_options.timeout
            ) as stream:
                self._parent.note_engine(stream.info)
                self._acquire_time = time.perf_counter() - asked_at
                voice = _Voice(stream.info.sample_rate, rate)
                for sentence in sentences(self._input_text):
                    # Each waits for its turn by itself, so a long text keeps nobody waiting.
                    stream.push_text(sentence)
                stream.end_input()
                async for output in outputs(stream):
                    if isinstance(output, SpeechOutput) and len(output.samples):
                        made = True
                        output_emitter.push(voice.push(output.samples))
                output_emitter.push(voice.flush())
        except VoxrayError as error:
            raise api_error(error) from error
        if not made and not any(letter.isalnum() for letter in self._input_text):
            # Else livekit-agents takes it for a failure, and tries it again and again.
            output_emitter.push(bytes(2 * int(_SILENCE_S * rate)))


class _Voice:
    """Samples of an engine as PCM at the rate that was promised."""

    def __init__(self, engine_rate: int, rate: int) -> None:
        self._rate = engine_rate
        self._resampler = None if engine_rate == rate else rtc.AudioResampler(engine_rate, rate)

    def push(self, samples: Samples) -> bytes:
        pcm = samples_to_pcm(samples)
        if self._resampler is None:
            return pcm
        return _joined(self._resampler.push(mono_frame(pcm, self._rate)))

    def flush(self) -> bytes:
        return b"" if self._resampler is None else _joined(self._resampler.flush())


def _joined(frames: list[rtc.AudioFrame]) -> bytes:
    return b"".join(bytes(frame.data.cast("B")) for frame in frames)
