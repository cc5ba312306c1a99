"""MP3 into samples as it comes, by PyAV, which livekit-agents brings along."""

from collections.abc import Iterable
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from voxray.base.errors import EngineConfigError, EngineError
from voxray.pipelines.audio import StreamResampler
from voxray.pipelines.engines.base import Samples


class Mp3Decoder:
    """One stream of MP3, in pieces of any size."""

    def __init__(self, rate: int) -> None:
        """Start a stream that comes out at `rate` Hz.

        Raises:
            EngineConfigError: PyAV was built without the decoder.
        """
        try:
            context = av.CodecContext.create("mp3", "r")
        except av.FFmpegError as error:
            raise EngineConfigError(f"this PyAV can't decode MP3: {error}") from error
        assert isinstance(context, AudioCodecContext)
        self._context = context
        self._rate = rate
        self._resampler: StreamResampler | None = None

    def push(self, data: bytes) -> Samples:
        """Return what can be heard after these bytes.

        Raises:
            EngineError: they are no MP3.
        """
        return self._decode(self._parse(data))

    def flush(self) -> Samples:
        """Return what is left at the end."""
        return self._decode([*self._parse(b""), None])

    def _parse(self, data: bytes) -> list["av.Packet[Any]"]:
        return self._context.parse(data)

    def _decode(self, packets: Iterable["av.Packet[Any] | None"]) -> Samples:
        try:
            frames = [frame for packet in packets for frame in self._context.decode(packet)]
        except av.EOFError:
            frames = []  # Nothing was ever pushed.
        except av.FFmpegError as error:
            raise EngineError(f"got audio that is no MP3: {error}") from error
        chunks = [self._samples(frame) for frame in frames]
        return np.concatenate(chunks) if chunks else np.empty(0, np.int16)

    def _samples(self, frame: "av.AudioFrame") -> Samples:
        # Planar formats give a row for each channel, the others one row of all.
        wave = frame.to_ndarray()
        channels = frame.layout.nb_channels
        mono = (wave if frame.format.is_planar else wave.reshape(-1, channels).T).mean(axis=0)
        if not np.issubdtype(wave.dtype, np.integer):
            mono = mono * 32767
        samples = np.clip(np.rint(mono), -32768, 32767).astype(np.int16)
        if self._resampler is None:
            self._resampler = StreamResampler(frame.sample_rate, self._rate)
        return self._resampler.push(samples)
