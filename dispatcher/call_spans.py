"""Spans of a call that begin in the dispatcher: its placement, and each resume."""

from collections import OrderedDict

from opentelemetry.trace import Span, StatusCode

from voxray.base.ids import JobId
from voxray.base.timing import Clock
from voxray.observability import events as ev
from voxray.observability.attributes import SafeAttribute, SpanName
from voxray.observability.tracing import Tracing, traceparent_of

# Offers whose placement is under way; an offer that never ends (LiveKit lost it) falls out.
_OPEN_LIMIT = 4096


class CallSpans:
    """Makes spans of events, one placement span for each offer.

    The placement span is the root of the call's trace: its context travels with the job to the
    host, where livekit-agents' own tree hangs under it, on every generation.
    """

    def __init__(self, tracing: Tracing, clock: Clock) -> None:
        self._tracing = tracing
        self._clock = clock
        self._open: OrderedDict[JobId, Span] = OrderedDict()

    def offered(self, job_id: JobId, received_at: float) -> str:
        """Begin the placement span of an offer; return its `traceparent`, or an empty string."""
        if not self._tracing.enabled:
            return ""
        span = self._tracing.start_span(
            SpanName.PLACEMENT,
            start_s=received_at,
            attributes={SafeAttribute.JOB_ID.value: job_id},
        )
        self._open[job_id] = span
        while len(self._open) > _OPEN_LIMIT:
            self._open.popitem(last=False)[1].end()
        return traceparent_of(span)

    def emit(self, event: ev.Event) -> None:
        """Take one event."""
        match event:
            case ev.JobAnswered(job_id=job_id, outcome=outcome) if outcome != "accepted":
                self._end(job_id, outcome)
            case ev.JobPlaced(job_id=job_id) if job_id in self._open:
                self._open[job_id].add_event("placed", {SafeAttribute.HOST_ID.value: event.host_id})
            case ev.JobRunning(job_id=job_id):
                self._end(job_id, "running", host_id=event.host_id)
            case ev.JobEnded(job_id=job_id, outcome=outcome):
                self._end(job_id, outcome)
            case ev.FailoverDone():
                self._failover(event)
            case _:
                pass

    def _end(self, job_id: JobId, outcome: str, host_id: str = "") -> None:
        span = self._open.pop(job_id, None)
        if span is None:
            return
        span.set_attribute(SafeAttribute.OUTCOME.value, outcome)
        if host_id:
            span.set_attribute(SafeAttribute.HOST_ID.value, host_id)
        if outcome in {"failed", "lost", "error"}:
            span.set_status(StatusCode.ERROR)
        span.end()

    def _failover(self, event: ev.FailoverDone) -> None:
        """Record the resume as a span that spans the gap, in the trace of its call."""
        now = self._clock.wall()
        span = self._tracing.start_span(
            SpanName.RESUME,
            traceparent=event.traceparent,
            start_s=now - event.gap_s,
            attributes={
                SafeAttribute.JOB_ID.value: event.job_id,
                SafeAttribute.FAILOVER_KIND.value: event.kind,
                SafeAttribute.OUTCOME.value: event.outcome,
                SafeAttribute.FROM_HOST.value: event.from_host,
                SafeAttribute.TO_HOST.value: event.to_host or "",
                SafeAttribute.GENERATION.value: event.generation,
                SafeAttribute.DETECTION_S.value: event.detection_s,
                SafeAttribute.GAP_S.value: event.gap_s,
            },
        )
        if event.outcome != "resumed":
            span.set_status(StatusCode.ERROR)
        span.end()
