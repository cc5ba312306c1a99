"""Batches that answered traced calls are spans, linked to the calls' traces."""

import asyncio

import numpy as np
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from voxray.base.settings import TelemetrySettings
from voxray.base.timing import SystemClock
from voxray.observability import tracing
from voxray.observability.events import NullSink
from voxray.pipelines.engine_host import EngineHost, StreamOrigin
from voxray.pipelines.engines.base import AudioInput, EndOfInput
from voxray.pipelines.engines.scripted import ScriptedEngine

TRACES = (
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-01",
)


async def spans_of(traceparents, **options):
    """What is recorded of streams that hear one input each and are ended together."""
    exporter = InMemorySpanExporter()
    traced = tracing.setup(TelemetrySettings(), role="replica", app="app", exporter=exporter)
    engine = ScriptedEngine()
    host = EngineHost(
        [engine],
        max_streams=8,
        latency_budget_ms=0.0,
        max_batch=8,
        sink=NullSink(),
        clock=SystemClock(),
        tracing=traced,
    )
    await host.start()
    ends = [asyncio.Event() for _ in traceparents]
    for traceparent, ended in zip(traceparents, ends, strict=True):
        stream = host.open(
            "scripted",
            options,
            on_output=lambda _: None,
            on_end=lambda _, ended=ended: ended.set(),
            origin=StreamOrigin(traceparent=traceparent),
        )
        stream.push(AudioInput(np.zeros(160, np.int16)))
        stream.push(EndOfInput())
    for ended in ends:
        await ended.wait()
    await host.aclose()
    traced.shutdown()
    return exporter.get_finished_spans()


async def test_a_batch_is_linked_to_the_trace_of_each_call_that_it_answered():
    (span,) = await spans_of(TRACES)
    assert span.name == "voxray.inference.batch"
    assert span.parent is None
    linked = {f"{link.context.trace_id:032x}-{link.context.span_id:016x}" for link in span.links}
    assert linked == {traceparent[3:52] for traceparent in TRACES}
    assert span.attributes["voxray.inference.engine"] == "scripted"
    assert span.attributes["voxray.inference.batch_size"] == 2
    assert span.end_time >= span.start_time


async def test_a_call_without_a_trace_makes_no_span():
    assert await spans_of(("",)) == ()


async def test_nonsense_instead_of_a_trace_context_is_passed_over():
    (span,) = await spans_of(("nonsense", TRACES[0]))
    assert len(span.links) == 1
