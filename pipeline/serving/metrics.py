"""What Prometheus is told: requests, times, batches, what waits, and what runs."""

from collections.abc import Callable, Iterable
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

from pipeline.serving.model import Model
from pipeline.serving.waiting import Ran

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_SAMPLES = tuple(float(2**power) for power in range(11))


class Metrics:
    """A registry of its own, so that nothing else of the process is told."""

    def __init__(self, models: Callable[[], Iterable[Model]], in_flight: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("pipeline_requests", "requests to infer", "model", "protocol", "code")
        self._latency = self._histogram("pipeline_request_seconds", "from reading to answering", _SECONDS, "protocol")
        self._queue = self._histogram("pipeline_queue_seconds", "how long the requests of a batch waited, on average")
        self._infer = self._histogram("pipeline_batch_seconds", "how long a batch ran")
        self._batch = self._histogram("pipeline_batch_samples", "samples that ran together", _SAMPLES)
        self._children: dict[tuple[str, str, str], Any] = {}
        self._latencies = {protocol: self._latency.labels(protocol) for protocol in ("http", "grpc")}
        self._batches: dict[str, tuple[Any, Any, Any]] = {}
        self._registry.register(_Now(models, in_flight))
        prometheus_client.ProcessCollector(registry=self._registry)
        prometheus_client.PlatformCollector(registry=self._registry)

    def answered(self, model: str, protocol: str, code: str, seconds: float) -> None:
        """Count a request to infer. `model` must be one that there is: every new name is kept for good."""
        key = model, protocol, code
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(*key)
        child.inc()
        self._latencies[protocol].observe(seconds)

    def ran(self, model: str, ran: Ran) -> None:
        """Count a batch."""
        found = self._batches.get(model)
        if found is None:
            found = self._queue.labels(model), self._infer.labels(model), self._batch.labels(model)
            self._batches[model] = found
        queue, infer, batch = found
        queue.observe(ran.queue_s / ran.requests)
        infer.observe(ran.infer_s)
        batch.observe(ran.rows)

    def text(self) -> bytes:
        """Return what there is to tell, as Prometheus reads it."""
        return prometheus_client.generate_latest(self._registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self._registry)

    def _histogram(
        self, name: str, help_: str, buckets: tuple[float, ...] = _SECONDS, label: str = "model"
    ) -> Histogram:
        return Histogram(name, help_, (label,), buckets=buckets, registry=self._registry)


class _Now:
    """What is so at the moment it is asked for."""

    def __init__(self, models: Callable[[], Iterable[Model]], in_flight: Callable[[], int]) -> None:
        self._models, self._in_flight = models, in_flight

    def collect(self) -> Iterable[Any]:
        """Yield the families of metrics."""
        waiting = GaugeMetricFamily("pipeline_queue_length", "requests that wait", labels=["model"])
        info = InfoMetricFamily("pipeline_model", "what runs", labels=["model"])
        for model in self._models():
            waiting.add_metric([model.name], model.waiting)
            runner = model.runs.runner
            info.add_metric(
                [model.name],
                {
                    "version": model.version,
                    "runner": runner.name,
                    "sha256": runner.sha256 or "",
                    "bundle": model.bundle.record.name,
                    "signer": model.bundle.signer,
                },
            )
        yield waiting
        yield info
        yield GaugeMetricFamily("pipeline_requests_in_flight", "requests taken on", value=self._in_flight())
