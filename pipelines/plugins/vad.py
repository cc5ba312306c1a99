"""`voxray.VAD`: voice activity from the shared engine, for any livekit-agents program."""

import asyncio
import dataclasses
import logging
import random
from typing import Any, get_args

from livekit import rtc
from livekit.agents import vad
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import aio, is_given, log_exceptions

from voxray.base.errors import DeadlineError, VoxrayError
from voxray.base.timing import Backoff, SystemClock
from voxray.pipelines import runtime
from voxray.pipelines.engines.base import ProbabilityOutput
from voxray.pipelines.plugins.exchange import exchange, outputs
from voxray.pipelines.plugins.failures import api_error
from voxray.pipelines.plugins.frames import mono_pcm
from voxray.pipelines.plugins.shared import SharedEngine
from voxray.pipelines.plugins.vad_edges import VADOptions
from voxray.pipelines.plugins.vad_places import EnginePlaces, Placement
from voxray.pipelines.plugins.vad_segment import VADSegment
from voxray.pipelines.streams import InferenceStream

logger = logging.getLogger(__name__)

_WINDOW_S = 0.032
# 512 samples at 16 kHz: how often Silero has something to say.
_RETRIES = DEFAULT_API_CONNECT_OPTIONS.max_retry
# A VAD has no connect options of its own in livekit-agents; the defaults of the others do.
_BACKOFF = Backoff(first_s=0.1, limit_s=2.0)
# A call is deaf meanwhile: begin sooner than the others.
_STALLED_S = 1.0
# A replica that owes a window for so long hangs, or is far behind: this process takes over.


class VAD(SharedEngine["VADStream"], vad.VAD):
    """Voice activity detection in voxray's shared inference.

    Options, defaults and events are those of the VAD that livekit-agents bundles.

    Args:
        activation_threshold: probability from which audio counts as speech.
        deactivation_threshold: probability down to which it stays speech once it began;
            0.15 less than the activation threshold if not given.
        min_speech_duration: seconds of speech before it counts.
        min_silence_duration: seconds of silence before the speech has ended.
        prefix_padding_duration: seconds before the speech that belong to its frames.
        max_buffered_speech: seconds of speech that its frames hold at most.
        engine: name of an engine, or `vad` for the default one.
        placement: `replica` takes the shared replicas, and goes on in this process while none of
            them serves the call; `host` always runs the engine in this process, in one batch for
            all of its calls.

    Raises:
        ValueError: a duration is negative, the deactivation threshold is not positive, or there
            is no such placement.
    """

    def __init__(  # noqa: PLR0913 - the option names of livekit-agents' own VAD
        self,
        *,
        activation_threshold: float = 0.5,
        deactivation_threshold: NotGivenOr[float | None] = None,
        min_speech_duration: float = 0.05,
        min_silence_duration: float = 0.25,
        prefix_padding_duration: float = 0.5,
        max_buffered_speech: float = 60.0,
        engine: str = "vad",
        placement: Placement = "replica",
    ) -> None:
        """Prepare; the engine is asked for when the first audio comes."""
        if placement not in get_args(Placement):
            raise ValueError(f"placement is {' or '.join(get_args(Placement))}, not {placement}")
        self._placement = placement
        SharedEngine.__init__(self, engine)
        vad.VAD.__init__(self, capabilities=vad.VADCapabilities(update_interval=_WINDOW_S))
        self._options = VADOptions(
            activation_threshold=activation_threshold,
            deactivation_threshold=(
                deactivation_threshold if is_given(deactivation_threshold) else None
            ),
            min_speech_duration=min_speech_duration,
            min_silence_duration=min_silence_duration,
            prefix_padding_duration=prefix_padding_duration,
            max_buffered_speech=max_buffered_speech,
        )

    @classmethod
    def load(cls, **options: Any) -> "VAD":
        """Return a VAD, as `silero.VAD.load` does; takes the options of the constructor."""
        return cls(**options)

    @property
    def min_silence_duration(self) -> float:
        """Seconds of silence before speech has ended; turn detectors check it."""
        return self._options.min_silence_duration

    def prewarm(self) -> None:
        """Have the engine loaded where it runs in this process."""
        runtime.prewarm(self._engine, here=self._placement == "host")

    def stream(self) -> "VADStream":
        """Return a stream for the audio of one call."""
        stream = VADStream(self, EnginePlaces(self._engine, self._placement), self._options)
        self._streams.add(stream)
        return stream

    def update_options(
        self,
        *,
        min_speech_duration: NotGivenOr[float] = NOT_GIVEN,
        min_silence_duration: NotGivenOr[float] = NOT_GIVEN,
        prefix_padding_duration: NotGivenOr[float] = NOT_GIVEN,
        max_buffered_speech: NotGivenOr[float] = NOT_GIVEN,
        activation_threshold: NotGivenOr[float] = NOT_GIVEN,
        deactivation_threshold: NotGivenOr[float] = NOT_GIVEN,
    ) -> None:
        """Change options, for open streams too.

        Raises:
            ValueError: as the constructor; nothing is changed then.
        """
        given = {
            "min_speech_duration": min_speech_duration,
            "min_silence_duration": min_silence_duration,
            "prefix_padding_duration": prefix_padding_duration,
            "max_buffered_speech": max_buffered_speech,
            "activation_threshold": activation_threshold,
            "deactivation_threshold": deactivation_threshold,
        }
        changes = {name: value for name, value in given.items() if is_given(value)}
        self._options = dataclasses.replace(self._options, **changes)
        for stream in self._streams:
            stream.update_options(**changes)


class VADStream(vad.VADStream):
    """The audio of one call: frames of any rate in, events out."""

    def __init__(self, parent: VAD, places: EnginePlaces, options: VADOptions) -> None:
        super().__init__(parent)
        self._parent = parent
        self._places = places
        self._options = options
        self._rate = 0
        self._segment: VADSegment | None = None
        self._segment_over = False
        self._failures = 0
        self._rng = random.Random()  # noqa: S311 - spreads retries, guards nothing

    def update_options(self, **changes: NotGivenOr[float]) -> None:
        """Change options from the next window on; names as in `VAD.update_options`.

        Raises:
            ValueError: as the constructor of `VAD`; nothing is changed then.
        """
        given = {name: value for name, value in changes.items() if is_given(value)}
        self._options = dataclasses.replace(self._options, **given)
        if self._segment is not None:
            self._segment.configure(self._options)

    @log_exceptions(logger=logger)
    async def _main_task(self) -> None:
        try:
            async for item in self._input_ch:
                if isinstance(item, rtc.AudioFrame):
                    self._rate = self._rate or item.sample_rate
                    await self._hear_segment(item)
        finally:
            await self._places.aclose()

    async def _hear_segment(self, frame: rtc.AudioFrame) -> None:
        # A flush is a new stream of the engine, not a message to it: what was pushed before is
        # told to its end, and nothing of it can reach into what comes after.
        segment = self._segment = VADSegment(self._rate, self._options, SystemClock())
        waiting: list[rtc.AudioFrame] = [frame]
        self._segment_over = told = False
        self._failures = 0
        while not told:
            try:
                async with self._places.opened() as stream:
                    self._parent.note_engine(stream.info)
                    if again := segment.attach(stream.info.sample_rate):
                        stream.push_audio(again, segment.rate)
                    feeding = self._feed(stream, segment, waiting)
                    await exchange("vad", feeding, self._listen(stream, segment))
                    told = self._segment_over
            except VoxrayError as error:
                self._failures += 1
                if not error.retryable or self._failures > _RETRIES:
                    raise api_error(error) from error
                logger.warning(
                    "VAD stream was lost, opening another",
                    extra={"reason": str(error), "attempt": self._failures},
                )
                if self._failures > 1:  # Once at once: a call is deaf meanwhile.
                    await asyncio.sleep(_BACKOFF.delay_s(self._failures, self._rng))

    async def _feed(
        self, stream: InferenceStream, segment: VADSegment, waiting: list[rtc.AudioFrame]
    ) -> None:
        """Hand audio on until the segment is over, or a better place for it was found."""
        while waiting:
            self._push(stream, segment, waiting.pop())
        while not self._segment_over and not (self._places.should_move and segment.idle):
            try:
                item = await self._input_ch.recv()
            except aio.ChanClosed:
                item = None
            if isinstance(item, rtc.AudioFrame):
                self._push(stream, segment, item)
                if self._places.remote and segment.stalled_s > _STALLED_S:
                    raise DeadlineError(f"no window of the VAD came for {_STALLED_S:g} s")
            else:
                self._segment_over = True
        stream.end_input()

    def _push(self, stream: InferenceStream, segment: VADSegment, frame: rtc.AudioFrame) -> None:
        if frame.sample_rate != segment.rate:
            logger.error("a frame with another sample rate was already pushed")
            return
        pcm = mono_pcm(frame)
        segment.push(pcm)
        stream.push_audio(pcm, frame.sample_rate)

    async def _listen(self, stream: InferenceStream, segment: VADSegment) -> None:
        async for output in outputs(stream):
            if isinstance(output, ProbabilityOutput):
                self._failures = 0
                for event in segment.take(output):
                    self._event_ch.send_nowait(event)
