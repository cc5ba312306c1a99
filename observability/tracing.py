"""OpenTelemetry: one tracer provider per process, our spans, and context across processes.

Spans are recorded only where an OTLP endpoint is set. The provider is shared with
livekit-agents, so that its tree of a call hangs under our placement span.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from voxray.base.settings import TelemetrySettings
from voxray.observability import attributes as at

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER_NAME = "voxray"
AttributeValue = str | int | float | bool


class _ProviderHook(Protocol):
    def __call__(self, provider: TracerProvider) -> None: ...


class Tracing:
    """The tracing of one process. Without an endpoint every span is a no-op."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self.tracer: Tracer = (
            trace.NoOpTracer() if provider is None else provider.get_tracer(_TRACER_NAME)
        )

    @property
    def enabled(self) -> bool:
        """Whether spans leave this process."""
        return self._provider is not None

    def start_span(
        self,
        name: str,
        *,
        traceparent: str = "",
        start_s: float | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        links: Iterable[str] = (),
    ) -> Span:
        """Start a span, as a child of `traceparent` if there is one.

        Args:
            name: one of `attributes.SpanName`.
            traceparent: W3C trace context, or empty for a new trace.
            start_s: Unix seconds of the start, for spans that began earlier.
            attributes: first attributes.
            links: W3C trace contexts of the other traces that it served.
        """
        return self.tracer.start_span(
            name,
            context=context_from(traceparent) or Context(),
            kind=SpanKind.INTERNAL,
            start_time=None if start_s is None else int(start_s * 1e9),
            attributes=dict(attributes or {}),
            links=[link for traceparent in links if (link := _link_to(traceparent)) is not None],
        )

    def shutdown(self) -> None:
        """Send what is recorded and stop. Idempotent."""
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = None


def setup(
    telemetry: TelemetrySettings,
    *,
    role: str,
    app: str,
    adopt: _ProviderHook | None = None,
    exporter: SpanExporter | None = None,
) -> Tracing:
    """Set the process's tracer provider up.

    Args:
        telemetry: the OTLP endpoint and protocol; an empty endpoint disables tracing.
        role: `dispatcher`, `host` or `replica`.
        app: the app's name.
        adopt: called with the provider, so that livekit-agents uses it too.
        exporter: takes the place of the OTLP exporter, for tests.
    """
    if exporter is None:
        if not telemetry.otlp_endpoint:
            return Tracing(None)
        exporter = _otlp_exporter(telemetry)
    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.name": f"voxray-{role}",
                "service.namespace": app,
                at.SafeAttribute.APP.value: app,
                at.SafeAttribute.ROLE.value: role,
            }
        )
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    if adopt is not None:
        adopt(provider)
    return Tracing(provider)


def context_from(traceparent: str) -> Context | None:
    """Return the OpenTelemetry context of a W3C `traceparent`, or None without one."""
    if not traceparent:
        return None
    context = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _link_to(traceparent: str) -> Link | None:
    context = context_from(traceparent)
    return None if context is None else Link(trace.get_current_span(context).get_span_context())


def traceparent_of(span: Span | None = None) -> str:
    """Return the W3C `traceparent` of a span (default: the current one), or an empty string."""
    carrier: dict[str, str] = {}
    context = None if span is None else trace.set_span_in_context(span, Context())
    _PROPAGATOR.inject(carrier, context)
    return carrier.get("traceparent", "")


def _otlp_exporter(telemetry: TelemetrySettings) -> SpanExporter:
    if telemetry.otlp_protocol == "grpc":
        # Loaded on demand: the exporter and its grpc stubs cost 30 MB where nobody traces.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(
            endpoint=telemetry.otlp_endpoint,
            insecure=telemetry.otlp_endpoint.startswith("http://"),
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - as above
        OTLPSpanExporter as HttpExporter,
    )

    endpoint = telemetry.otlp_endpoint.rstrip("/")
    # The variable names the collector; the path of the signal is ours to add (OTLP/HTTP spec).
    return HttpExporter(
        endpoint=endpoint if endpoint.endswith("/v1/traces") else f"{endpoint}/v1/traces"
    )


__all__ = ["Tracing", "context_from", "setup", "traceparent_of"]
