"""Spans carry their context from process to process, and cost nothing without an endpoint."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from voxray.base.settings import TelemetrySettings
from voxray.observability import tracing
from voxray.observability.attributes import SafeAttribute, SpanName


def test_without_an_endpoint_nothing_is_recorded() -> None:
    off = tracing.setup(TelemetrySettings(), role="host", app="a")
    span = off.start_span(SpanName.PLACEMENT)
    assert not off.enabled
    assert not span.is_recording()
    assert tracing.traceparent_of(span) == ""
    off.shutdown()


def test_a_span_of_another_process_becomes_the_parent() -> None:
    exporter = InMemorySpanExporter()
    adopted: list[TracerProvider] = []
    on = tracing.setup(
        TelemetrySettings(),
        role="dispatcher",
        app="a",
        adopt=adopted.append,
        exporter=exporter,
    )
    parent = on.start_span(SpanName.PLACEMENT, attributes={SafeAttribute.JOB_ID: "AJ_1"})
    sent = tracing.traceparent_of(parent)
    child = on.start_span(SpanName.RESUME, traceparent=sent, start_s=12.5)
    child.end()
    parent.end()
    on.shutdown()
    on.shutdown()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans["voxray.resume"].parent is not None
    assert spans["voxray.resume"].parent.span_id == parent.get_span_context().span_id
    assert spans["voxray.resume"].start_time == 12_500_000_000
    assert spans["voxray.placement"].parent is None
    assert spans["voxray.placement"].resource.attributes["service.name"] == "voxray-dispatcher"
    assert adopted


def test_a_broken_traceparent_is_no_context() -> None:
    assert tracing.context_from("") is None
    assert tracing.context_from("00-zz-zz-01") is None
