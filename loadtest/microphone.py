"""A caller's microphone: it never stops, and between sentences it sends silence."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
from livekit import rtc

from voxray.base.errors import StreamClosedError
from voxray.base.lifecycle import TaskOwner
from voxray.loadtest.speech import SPEECH_RATE
from voxray.pipelines.engines.base import Samples

_FRAME_SAMPLES = SPEECH_RATE // 50  # 20 ms.
# Enough to bridge a late event loop, so that a sentence has no holes; accounted for in the times.
_QUEUE_MS = 200
_SILENCE: Samples = np.zeros(_FRAME_SAMPLES, dtype=np.int16)


class _Sentence:
    """Samples on their way out, and when the last of them is played."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.sent = 0
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def next_frame(self) -> Samples:
        """Take one frame, the last one filled up with silence."""
        part = self.samples[self.sent : self.sent + _FRAME_SAMPLES]
        self.sent += len(part)
        return np.concatenate([part, _SILENCE[len(part) :]])


class Microphone:
    """An audio track with live sound.

    Args:
        on_frame: told of each frame: when its first sample is played (`time.monotonic()` seconds)
            and its samples.
    """

    def __init__(self, on_frame: Callable[[float, Samples], None]) -> None:
        self._on_frame = on_frame
        self._source = rtc.AudioSource(SPEECH_RATE, 1, queue_size_ms=_QUEUE_MS)
        self.track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        self._tasks = TaskOwner("microphone", self._failed)
        self._sentence: _Sentence | None = None
        self._failure: BaseException | None = None
        self._closed = False

    def start(self) -> None:
        """Switch it on."""
        self._tasks.spawn("play", self._play())

    async def say(self, samples: Samples) -> float:
        """Speak one sentence and return when its last sample was played out.

        Raises:
            StreamClosedError: the microphone was closed, or broke, before the end.
        """
        if self._closed or self._failure is not None:
            raise StreamClosedError("the microphone is off") from self._failure
        if self._sentence is not None:
            raise RuntimeError("a caller says one sentence at a time")
        self._sentence = _Sentence(samples)
        try:
            return await self._sentence.ended
        finally:
            self._sentence = None

    async def aclose(self) -> None:
        """Switch it off. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._tasks.aclose()
        self._end_sentence()
        await self._source.aclose()

    async def _play(self) -> None:
        # The pace comes from the source: it takes a frame when its queue has room for it.
        while True:
            sentence = self._sentence
            samples = sentence.next_frame() if sentence is not None else _SILENCE
            frame = rtc.AudioFrame(samples.tobytes(), SPEECH_RATE, 1, _FRAME_SAMPLES)
            played_s = time.monotonic() + self._source.queued_duration
            self._on_frame(played_s, samples)
            await self._source.capture_frame(frame)
            if sentence is not None and sentence.sent == len(sentence.samples):
                rest = len(sentence.samples) % _FRAME_SAMPLES or _FRAME_SAMPLES
                if not sentence.ended.done():
                    sentence.ended.set_result(played_s + rest / SPEECH_RATE)
                if self._sentence is sentence:
                    self._sentence = None

    def _failed(self, _name: str, error: BaseException) -> None:
        self._failure = error
        self._end_sentence()

    def _end_sentence(self) -> None:
        if self._sentence is not None and not self._sentence.ended.done():
            self._sentence.ended.set_exception(
                StreamClosedError("the microphone went off within a sentence")
            )
