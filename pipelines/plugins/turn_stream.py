"""The audio of one call on its way to the turn detector, and the questions about it."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from livekit import rtc
from livekit.agents.language import LanguageCode
from livekit.agents.utils import log_exceptions
from livekit.agents.voice.turn import TurnDetectionEvent

from voxray.base.errors import PeerFailedError, StreamEndedError, VoxrayError
from voxray.base.timing import Backoff
from voxray.pipelines.audio import BYTES_PER_SAMPLE
from voxray.pipelines.engines.base import TurnOutput
from voxray.pipelines.plugins.exchange import opened, outputs
from voxray.pipelines.plugins.frames import mono_pcm
from voxray.pipelines.streams import InferenceStream

logger = logging.getLogger(__name__)

_TIMEOUT_S = 1.0
# What a session waits for an answer: livekit-agents' DEFAULT_PREDICTION_TIMEOUT.
_KEPT_S = 1.2
# What the model hears: so much is told to an engine that was opened late.
_BACKOFF = Backoff(first_s=0.2, limit_s=5.0)
_ENDED, _GOES_ON = 1.0, 0.0
# Answers without the model. Where it is lost, the turn ends after the session's shorter delay, as
# with livekit-agents' own detector; a question that was withdrawn is answered by silence.


class Thresholds(Protocol):
    """What a stream asks its detector."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def provider(self) -> str:
        """Who provides the model."""
        ...

    async def unlikely_threshold(self, language: LanguageCode | None) -> float | None:
        """Return the probability below which a turn goes on."""
        ...

    async def backchannel_threshold(self, language: LanguageCode | None) -> float | None:
        """Return the probability from which a backchannel fits."""
        ...

    async def supports_language(self, language: LanguageCode | None) -> bool:
        """Return whether the model knows the language."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one question took, in seconds: altogether, and in the model."""

    took_s: float
    inference_s: float


@dataclass(slots=True)
class _Question:
    future: asyncio.Future[TurnDetectionEvent]
    asked_s: float


class TurnDetectorStream:
    """What livekit-agents expects of the stream of a turn detector; for one event loop."""

    def __init__(
        self,
        detector: Thresholds,
        engine: str,
        *,
        timeout_s: float,
        on_answer: Callable[[Answer], None],
    ) -> None:
        """Begin to open a stream of the engine.

        Args:
            detector: whose thresholds count.
            engine: name or kind of the engine.
            timeout_s: longest wait for it to open.
            on_answer: told of each answer that the model gave.
        """
        self._detector = detector
        self._engine = engine
        self._timeout_s = timeout_s
        self._on_answer = on_answer
        self._stream: InferenceStream | None = None
        self._kept: deque[tuple[bytes, int]] = deque()
        self._kept_s = 0.0
        self._question: _Question | None = None
        # Questions that the present stream was asked and has answered.
        self._asked = self._answered = 0
        self._closed = False
        self._lost = False
        self._rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._task = asyncio.create_task(self._run(), name="turn-detector")

    @property
    def model(self) -> str:
        """The model's name."""
        return self._detector.model

    @property
    def provider(self) -> str:
        """Who provides the model."""
        return self._detector.provider

    @property
    def is_fallback(self) -> bool:
        """Whether it stands in for a better one: never."""
        return False

    @property
    def prediction_timeout(self) -> float:
        """Seconds that a session waits for an answer."""
        return _TIMEOUT_S

    async def unlikely_threshold(self, language: LanguageCode | None) -> float | None:
        """Return the probability below which a turn goes on."""
        return await self._detector.unlikely_threshold(language)

    async def backchannel_threshold(self, language: LanguageCode | None) -> float | None:
        """Return the probability from which a backchannel fits: the model tells none."""
        return await self._detector.backchannel_threshold(language)

    async def supports_language(self, language: LanguageCode | None) -> bool:
        """Return whether the model knows the language."""
        return await self._detector.supports_language(language)

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        """Hear a frame."""
        if self._closed or self._lost:
            return
        pcm = mono_pcm(frame)
        if self._stream is None:
            self._keep(pcm, frame.sample_rate)
        else:
            self._tell(lambda stream: stream.push_audio(pcm, frame.sample_rate))

    def predict(self) -> asyncio.Future[TurnDetectionEvent]:
        """Ask whether the turn has ended; a question before it is withdrawn."""
        self.cancel_inference()
        future: asyncio.Future[TurnDetectionEvent] = asyncio.get_running_loop().create_future()
        if self._closed or self._lost:
            future.set_result(_event(_ENDED))
            return future
        self._question = _Question(future, time.perf_counter())
        self._ask()
        return future

    def cancel_inference(self, *, timed_out: bool = False) -> None:  # noqa: ARG002 - their name
        """Withdraw the question, if there is one."""
        self._settle(_event(_GOES_ON))

    def flush(self, reason: str | None = None) -> None:  # noqa: ARG002 - their name
        """Forget what was heard: the turn is over."""
        self._forget()
        self._tell(lambda stream: stream.flush(discard=True))
        self.cancel_inference()

    def end_input(self) -> None:
        """Say that no more audio comes. Idempotent."""
        if not self._closed:
            self.flush()
            self._closed = True

    async def aclose(self) -> None:
        """End the stream. Idempotent."""
        self.end_input()
        self._task.cancel()
        await asyncio.wait([self._task])

    @log_exceptions(logger=logger)
    async def _run(self) -> None:
        failures = 0
        while True:
            error = await self._serve()
            self._stream = None
            self._settle(_event(_ENDED))
            if not error.retryable:
                self._give_up(error)
                return
            failures = 1 if self._answered else failures + 1
            self._asked = self._answered = 0
            delay_s = _BACKOFF.delay_s(failures, self._rng)
            logger.warning(
                "turn detector was lost, opening another",
                extra={"reason": str(error), "attempt": failures, "delay_s": delay_s},
            )
            await asyncio.sleep(delay_s)

    async def _serve(self) -> VoxrayError:
        """Use one stream of the engine as long as it lasts; return why it ended."""
        try:
            async with opened(self._engine, {}, self._timeout_s) as stream:
                self._begin(stream)
                async for output in outputs(stream):
                    if isinstance(output, TurnOutput):
                        self._answer(output)
        except VoxrayError as error:
            return error
        return PeerFailedError(f"engine {self._engine} ended the stream")

    def _begin(self, stream: InferenceStream) -> None:
        self._stream = stream
        self._asked = self._answered = 0
        for pcm, rate in tuple(self._kept):
            stream.push_audio(pcm, rate)
        self._forget()
        self._ask()

    def _ask(self) -> None:
        if self._question is not None and self._stream is not None:
            self._asked += 1
            self._tell(lambda stream: stream.flush())

    def _answer(self, output: TurnOutput) -> None:
        self._answered += 1
        question = self._question
        # An answer to a question that was withdrawn meanwhile says nothing about this one.
        if question is None or self._answered < self._asked:
            return
        took_s = time.perf_counter() - question.asked_s
        self._settle(
            _event(output.probability, detection_delay=took_s, inference_s=output.inference_s)
        )
        self._on_answer(Answer(took_s=took_s, inference_s=output.inference_s))

    def _settle(self, event: TurnDetectionEvent) -> None:
        question, self._question = self._question, None
        if question is not None and not question.future.done():
            question.future.set_result(event)

    def _tell(self, say: Callable[[InferenceStream], None]) -> None:
        if self._stream is None or self._closed:
            return
        try:
            say(self._stream)
        except StreamEndedError:
            # Why is told to who receives; until then it is as if it were not open.
            self._stream = None

    def _give_up(self, error: VoxrayError) -> None:
        self._lost = True
        self._forget()
        logger.error(
            "turn detection is off: turns end after the session's endpointing delay",
            extra={"reason": str(error)},
        )

    def _keep(self, pcm: bytes, rate: int) -> None:
        self._kept.append((pcm, rate))
        self._kept_s += _seconds(pcm, rate)
        while self._kept and self._kept_s - _seconds(*self._kept[0]) >= _KEPT_S:
            self._kept_s -= _seconds(*self._kept.popleft())

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_s = 0.0


def _seconds(pcm: bytes, rate: int) -> float:
    return len(pcm) / BYTES_PER_SAMPLE / rate


def _event(
    probability: float, *, detection_delay: float | None = None, inference_s: float | None = None
) -> TurnDetectionEvent:
    return TurnDetectionEvent(
        type="eot_prediction",
        last_speaking_time=time.time(),
        end_of_turn_probability=probability,
        detection_delay=detection_delay,
        inference_duration=inference_s,
    )
