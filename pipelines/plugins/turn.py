"""`voxray.TurnDetector`: end-of-turn detection by sound from the shared engine."""

import time
from typing import Any

from livekit.agents import inference
from livekit.agents.language import LanguageCode
from livekit.agents.metrics import EOTInferenceMetrics
from livekit.agents.metrics.base import Metadata
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)

from voxray.pipelines import runtime
from voxray.pipelines.plugins.turn_stream import Answer, TurnDetectorStream


class TurnDetector(inference.TurnDetector):
    """The end-of-turn model that livekit-agents bundles, in voxray's shared inference.

    Give it to a session as its `turn_detection`. It is `livekit.agents.inference.TurnDetector` with
    `version="v1-mini"` in all but the place where the model runs: once in a replica, with 0.3 GB,
    and not once in each process that has calls.

    Args:
        unlikely_threshold: probability below which the turn goes on; a number, or one for each
            language. The model's own thresholds if not given.
        engine: name of an engine, or `turn` for the default one.
    """

    def __init__(
        self,
        *,
        unlikely_threshold: NotGivenOr[float | dict[LanguageCode | str, float]] = NOT_GIVEN,
        engine: str = "turn",
    ) -> None:
        """Prepare; the engine is asked for when a session starts."""
        super().__init__(version="v1-mini", unlikely_threshold=unlikely_threshold)
        self._engine = engine

    def prewarm(self) -> None:
        """Have the engine loaded where it runs in this process."""
        runtime.prewarm(self._engine)

    def describe_options(self) -> dict[str, Any]:
        """Return what a session's report shows."""
        return {**super().describe_options(), "engine": self._engine}

    def stream(  # type: ignore[override]  # What it returns is the protocol, not their class.
        self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> TurnDetectorStream:
        """Return a stream for the audio of one call; it needs a running event loop."""
        return TurnDetectorStream(
            self, self._engine, timeout_s=conn_options.timeout, on_answer=self._answered
        )

    def _answered(self, answer: Answer) -> None:
        self.emit(
            "metrics_collected",
            EOTInferenceMetrics(
                timestamp=time.time(),
                total_duration=answer.took_s,
                detection_delay=answer.took_s,
                prediction_duration=answer.inference_s,
                metadata=Metadata(model_name=self.model, model_provider=self.provider),
            ),
        )
