"""Spans of requests for an OpenTelemetry collector (extra `otel`)."""

from typing import Any

from pipeline import environment
from pipeline.errors import BackendUnavailable

NAME = "keras-tensorrt-pipeline"


class Span:
    """One request, from its begin to its end."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def end(self, *, model: str, code: str) -> None:
        """End it with what became of the request."""
        self._span.set_attribute("model", model)
        self._span.set_attribute("code", code)
        self._span.end()


class Tracer:
    """Sends spans to a collector, from a thread of its own; what the collector does not take is lost."""

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise BackendUnavailable(
                f"serve.trace_endpoint needs OpenTelemetry: {error}", "Install the extra otel, or unset it."
            ) from error
        resource = Resource.create({"service.name": NAME, "service.version": environment.version(NAME) or ""})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer(__name__)
        self._propagator = TraceContextTextMapPropagator()

    def start(self, protocol: str, traceparent: bytes) -> Span:
        """Begin the span of a request, below that of the client where it names one."""
        carrier = {"traceparent": traceparent.decode("ascii", "replace")} if traceparent else {}
        context = self._propagator.extract(carrier)
        return Span(self._tracer.start_span("infer", context, attributes={"protocol": protocol}))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
