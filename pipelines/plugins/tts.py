"""`voxray.TTS`: speech synthesis from the shared engine, for any livekit-agents program."""

import dataclasses
import weakref
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
from voxray.pipelines import runtime
from voxray.pipelines.audio import samples_to_pcm
from voxray.pipelines.engines.base import EngineInfo, Samples, SpeechOutput
from voxray.pipelines.plugins.exchange import opened, outputs
from voxray.pipelines.plugins.failures import api_error
from voxray.pipelines.plugins.frames import mono_frame
from voxray.pipelines.sentences import sentences

_SAMPLE_RATE = 22_050
# Hz; espeak-ng's and most Piper voices'.
_FRAME_MS = 100
# The emitter's largest frame; it begins with smaller ones, so the first audio is not held back.
_SILENCE_S = 0.01
# What a text without anything to speak (dashes, an ellipsis) sounds like.


@dataclass(frozen=True, kw_only=True)
class _Options:
    voice: str
    rate: int | None

    def for_engine(self) -> dict[str, Any]:
        given = {"voice": self.voice, "rate": self.rate}
        return {name: value for name, value in given.items() if value is not None}


class TTS(tts.TTS[Never]):
    """Speech synthesis in voxray's shared inference; audio comes as it is made."""

    def __init__(
        self,
        *,
        voice: str = "en-us",
        rate: int | None = None,
        sample_rate: int = _SAMPLE_RATE,
        engine: str = "tts",
    ) -> None:
        """Prepare; the engine is asked for when there is something to say.

        Args:
            voice: name of a voice of the engine.
            rate: words a minute; None takes the engine's own.
            sample_rate: Hz of the audio handed out; an engine of another rate is resampled.
            engine: name of an engine, or `tts` for the default one.
        """
        super().__init__(
            # The session cuts the text into sentences: the first is heard while others are made.
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=sample_rate,
            num_channels=1,
        )
        self._engine = engine
        self._info: EngineInfo | None = None
        self._options = _Options(voice=voice, rate=rate)
        self._streams: weakref.WeakSet[ChunkedStream] = weakref.WeakSet()

    @property
    def model(self) -> str:
        """The model that serves it; the engine's name before the first stream is open."""
        return self._info.model if self._info else self._engine

    @property
    def provider(self) -> str:
        """Who provides the model."""
        return self._info.provider if self._info else "voxray"

    def prewarm(self) -> None:
        """Have the engine loaded where it runs in this process."""
        runtime.prewarm(self._engine)

    def note_engine(self, info: EngineInfo) -> None:
        """Remember what serves the streams, for metrics and spans."""
        self._info = info

    def update_options(
        self, *, voice: NotGivenOr[str] = NOT_GIVEN, rate: NotGivenOr[int | None] = NOT_GIVEN
    ) -> None:
        """Change options for what is said from now on."""
        if is_given(voice):
            self._options = dataclasses.replace(self._options, voice=voice)
        if is_given(rate):
            self._options = dataclasses.replace(self._options, rate=rate)

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> "ChunkedStream":
        """Return a stream with the speech of a text."""
        stream = ChunkedStream(self, text, self._engine, self._options, conn_options)
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """End all streams."""
        for stream in tuple(self._streams):
            await stream.aclose()


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
        try:
            async with opened(
                self._engine, self._options.for_engine(), self._conn_options.timeout
            ) as stream:
                self._parent.note_engine(stream.info)
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
