"""What is told to Prometheus, to a collector of traces, and to the log: never anything of what clients send."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import tritonclient.grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from servers import NAME, Server, serving

from pipeline.artifacts.bundle import BundleRecord
from pipeline.deployment import bundle as bundles
from pipeline.tensors import Array


def _metrics(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = server.ask("GET", "/metrics")[2].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_is_told_what_runs_and_what_was_asked(bundle: Path, server: Server, images: Array) -> None:
    before = _metrics(server)
    server.infer(images)
    server.ask("POST", "/v2/models/nobody-at-all/infer", b"{}")
    now = _metrics(server)

    def grown(name: str, **labels: str) -> float:
        key = name, frozenset(labels.items())
        return now[key] - before.get(key, 0)

    assert grown("pipeline_requests_total", model=NAME, protocol="http", code="200") == 1
    assert grown("pipeline_requests_total", model="", protocol="http", code="404") == 1
    assert grown("pipeline_batch_samples_sum", model=NAME) == 5
    assert grown("pipeline_request_seconds_count", protocol="http") == 2
    record = BundleRecord.read(bundle / bundles.RECORD)
    (info,) = [dict(labels) for name, labels in now if name == "pipeline_model_info" and dict(labels)["model"] == NAME]
    assert info["sha256"] == record.runners[0].runner.sha256
    assert info["runner"] == record.runners[0].runner.name
    assert ("process_resident_memory_bytes", frozenset()) in now
    assert not any("nobody-at-all" in value for _, labels in now for _, value in labels), "strangers add no series"


def test_spans_reach_a_collector(bundle: Path, tmp_path: Path, images: Array) -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
        with serving(bundle, tmp_path / "log", f"serve.trace_endpoint={endpoint}") as server:
            traceparent = {"traceparent": f"00-{trace}-{parent}-01"}
            assert server.ask("POST", f"/v2/models/{NAME}/infer", b"{}", traceparent)[0] == 400
            one = tritonclient.grpc.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)
            tritonclient.grpc.InferenceServerClient(server.grpc_url).infer(NAME, [one])
            assert server.stop() == 0, "what is left is sent at the end"
        collector.shutdown()
    spans = [
        span
        for body in received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    told = [{one.key: one.value.string_value for one in span.attributes} for span in spans]
    assert told == [
        {"protocol": "http", "model": NAME, "code": "400"},
        {"protocol": "grpc", "model": NAME, "code": "OK"},
    ]
    assert (spans[0].trace_id.hex(), spans[0].parent_span_id.hex()) == (trace, parent)
    assert spans[0].end_time_unix_nano > spans[0].start_time_unix_nano


def test_the_log_holds_nothing_of_what_clients_send(server: Server) -> None:
    secret = "a-very-secret-name"
    server.ask("POST", f"/v2/models/{secret}/infer", secret.encode())
    server.infer(np.zeros((1, 28, 28, 1), np.uint8), id=secret)
    assert secret not in server.log.read_text("utf-8")
