"""The input side of a stream: what may be put in, and when no more."""

from voxray.base.errors import ProtocolError, StreamClosedError, StreamEndedError, VoxrayError
from voxray.pipelines.audio_source import AudioSource
from voxray.pipelines.engines.base import (
    EndOfInput,
    EngineInfo,
    EngineKind,
    FlushInput,
    TextInput,
)
from voxray.pipelines.wire import messages as m

_TEXT_CHARACTERS = m.MAX_TEXT_BYTES // 4
# A character takes up to 4 bytes.


class StreamInput:
    """Puts the input of one stream into the log of its source."""

    def __init__(self, key: int, source: AudioSource) -> None:
        """Prepare; `key` tells the streams of a source apart."""
        self._key = key
        self._source = source
        self._info: EngineInfo | None = None
        self._end: VoxrayError | None = None
        self._input_ended = False

    @property
    def source(self) -> AudioSource:
        """Where the input is kept."""
        return self._source

    @property
    def info(self) -> EngineInfo:
        """The engine that serves the stream."""
        if self._info is None:
            raise RuntimeError("the stream was not opened yet")
        return self._info

    @property
    def ended(self) -> bool:
        """Whether the stream is over."""
        return self._end is not None

    def push_audio(self, pcm: bytes, rate: int) -> None:
        """Hand in 16-bit little-endian mono PCM at `rate` Hz, for all streams of the source.

        Raises:
            StreamEndedError: the stream has ended.
            ProtocolError: the audio can't be understood, or the engine takes text.
        """
        self._check_input(speaks=False)
        self._source.push_audio(pcm, rate)

    def push_text(self, text: str) -> None:
        """Hand in text to speak.

        Raises:
            StreamEndedError: the stream has ended.
            ProtocolError: the engine takes audio.
        """
        self._check_input(speaks=True)
        for start in range(0, len(text), _TEXT_CHARACTERS):
            part = TextInput(text[start : start + _TEXT_CHARACTERS])
            self._source.append(self._key, part)

    def flush(self, *, discard: bool = False) -> None:
        """End the current segment: its result comes now.

        Args:
            discard: forget the segment: nothing is said of it.

        Raises:
            StreamEndedError: the stream has ended.
        """
        self._check_open()
        self._source.append(self._key, FlushInput(discard))

    def end_input(self) -> None:
        """Say that no more input comes. Idempotent."""
        if not self._input_ended and self._end is None:
            self._input_ended = True
            self._source.append(self._key, EndOfInput())

    def _check_open(self) -> None:
        if self._end is not None:
            raise (
                self._end
                if isinstance(self._end, StreamEndedError)
                else StreamClosedError(f"the stream has failed: {self._end}")
            )
        if self._input_ended:
            raise StreamClosedError("the input of this stream was ended")

    def _check_input(self, *, speaks: bool) -> None:
        self._check_open()
        if (self.info.kind is EngineKind.TTS) is not speaks:
            given, takes = ("text", "audio") if speaks else ("audio", "text")
            raise ProtocolError(f"engine {self.info.name} takes {takes} and was given {given}")
