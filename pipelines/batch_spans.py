"""Spans of batches, linked to the traces of the calls that they answered."""

from collections.abc import Iterable

from voxray.base.timing import Clock
from voxray.observability.attributes import SafeAttribute, SpanName
from voxray.observability.tracing import Tracing
from voxray.pipelines.engines.base import EngineOutput, SpeechOutput, TranscriptOutput


def is_answer(output: EngineOutput) -> bool:
    """Return whether a call waited for this: a final transcript, or speech."""
    if isinstance(output, TranscriptOutput):
        return output.final
    return isinstance(output, SpeechOutput)


class BatchSpans:
    """Makes a span for each batch that answered a traced call.

    A batch serves many calls: it is a span of its own, with a link to the trace of each. Batches
    that answered nobody, as nearly all of voice activity are, have none: there are hundreds a
    second of them.
    """

    def __init__(self, tracing: Tracing, clock: Clock) -> None:
        self._tracing = tracing
        self._clock = clock

    def record(
        self,
        engine: str,
        size: int,
        queue_s: float,
        service_s: float,
        traceparents: Iterable[str],
    ) -> None:
        """Record a batch that ended just now; `traceparents` of the calls that it answered."""
        links = [traceparent for traceparent in traceparents if traceparent]
        if not links or not self._tracing.enabled:
            return
        ended_s = self._clock.wall()
        span = self._tracing.start_span(
            SpanName.BATCH.value,
            start_s=ended_s - service_s,
            links=links,
            attributes={
                SafeAttribute.ENGINE.value: engine,
                SafeAttribute.BATCH_SIZE.value: size,
                SafeAttribute.QUEUE_S.value: queue_s,
            },
        )
        span.end(end_time=int(ended_s * 1e9))
