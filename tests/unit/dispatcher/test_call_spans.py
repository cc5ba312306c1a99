"""A call's placement span is its trace's root; a resume is a span in the same trace."""

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from voxray.base.ids import HostId, JobId
from voxray.base.settings import TelemetrySettings
from voxray.base.timing import SystemClock
from voxray.dispatcher.call_spans import CallSpans
from voxray.observability import events as ev
from voxray.observability import tracing

JOB = JobId("AJ_1")
HOST = HostId("aa")


def recorded(*events: ev.Event) -> tuple[dict[str, ReadableSpan], str]:
    exporter = InMemorySpanExporter()
    process = tracing.setup(TelemetrySettings(), role="dispatcher", app="a", exporter=exporter)
    spans = CallSpans(process, SystemClock())
    parent = spans.offered(JOB, 100.0)
    for event in events:
        spans.emit(event)
    process.shutdown()
    return {span.name: span for span in exporter.get_finished_spans()}, parent


def failover(outcome: str, parent: str) -> ev.FailoverDone:
    return ev.FailoverDone(
        job_id=JOB,
        kind="host_died",
        outcome=outcome,
        from_host=HOST,
        to_host=HostId("bb"),
        generation=2,
        detection_s=0.1,
        gap_s=0.5,
        traceparent=parent,
    )


def test_a_placement_ends_when_the_agent_is_heard() -> None:
    spans, parent = recorded(
        ev.JobAnswered(job_id=JOB, outcome="accepted", seconds=0.01),
        ev.JobPlaced(job_id=JOB, host_id=HOST, generation=1, cause="new"),
        ev.JobRunning(job_id=JOB, host_id=HOST, generation=1, cause="new", seconds=1),
        ev.JobEnded(job_id=JOB, outcome="success", reason="", seconds=2),
    )
    span = spans["voxray.placement"]
    assert span.start_time == 100 * 10**9
    assert span.attributes is not None
    assert span.attributes["voxray.host.id"] == HOST
    assert span.attributes["voxray.outcome"] == "running"
    assert [event.name for event in span.events] == ["placed"]
    assert span.context is not None
    assert format(span.context.trace_id, "032x") in parent


def test_a_refusal_ends_it_too_and_a_failure_is_an_error() -> None:
    spans, _ = recorded(ev.JobAnswered(job_id=JOB, outcome="full", seconds=0.01))
    assert spans["voxray.placement"].status.status_code is StatusCode.UNSET
    spans, _ = recorded(ev.JobEnded(job_id=JOB, outcome="failed", reason="", seconds=2))
    assert spans["voxray.placement"].status.status_code is StatusCode.ERROR


def test_a_resume_spans_the_gap_in_the_trace_of_its_call() -> None:
    exporter = InMemorySpanExporter()
    process = tracing.setup(TelemetrySettings(), role="dispatcher", app="a", exporter=exporter)
    spans = CallSpans(process, SystemClock())
    parent = spans.offered(JOB, 100.0)
    spans.emit(failover("resumed", parent))
    spans.emit(failover("failed", parent))
    process.shutdown()
    resumed, failed = exporter.get_finished_spans()
    assert resumed.name == "voxray.resume"
    assert resumed.parent is not None
    assert format(resumed.parent.trace_id, "032x") in parent
    assert resumed.end_time is not None
    assert resumed.start_time is not None
    assert 0.4e9 < resumed.end_time - resumed.start_time < 1e9
    assert failed.status.status_code is StatusCode.ERROR


def test_without_tracing_nothing_is_kept() -> None:
    off = CallSpans(tracing.setup(TelemetrySettings(), role="d", app="a"), SystemClock())
    assert off.offered(JOB, 1.0) == ""
    off.emit(failover("resumed", ""))
