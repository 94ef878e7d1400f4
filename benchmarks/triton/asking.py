"""What `tritonclient` gets from a server, by every way it has, beside what our own session answers."""

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

from benchmarks.triton.server import Server
from pipeline.artifacts.bundle import BundleRecord
from pipeline.runners import Runner
from pipeline.tensors import Array, Feed, Outputs, TensorSpec


@dataclass(frozen=True)
class Answer:
    """One way of asking, how many samples in a request, and the largest difference from our session's answers."""

    way: str
    samples: int
    largest_difference: float


def made(inputs: tuple[TensorSpec, ...], samples: int, seed: int = 0) -> Feed:
    """Return inputs of random values, [samples, …] by name; a dynamic axis gets the size 1."""
    random = np.random.default_rng(seed)
    feed = {}
    for spec in inputs:
        shape = (samples, *(size or 1 for size in spec.shape[1:]))
        values = (
            random.random(shape)
            if spec.dtype.kind == "f"
            else random.integers(0, 2 if spec.dtype.kind == "b" else 100, shape)
        )
        feed[spec.name] = values.astype(spec.dtype)
    return feed


def expected(runner: Runner, feed: Feed) -> Outputs:
    """Return what the runner that was judged answers."""
    with runner.open() as session:
        return {name: rows.copy() for name, rows in session.run(feed).items()}


def answers(server: Server, record: BundleRecord, feed: Feed, wanted: Outputs) -> Iterator[Answer]:
    """Ask in every way, and yield how far each answer is from the wanted one."""
    name, version = record.name, str(record.version)
    with (
        tritonclient.http.InferenceServerClient(server.http) as http,
        tritonclient.grpc.InferenceServerClient(server.grpc) as grpc,
    ):
        ways = [
            ("HTTP, binary", http, tritonclient.http, {}, {}),
            ("HTTP, JSON", http, tritonclient.http, {"binary_data": False}, {}),
            ("gRPC", grpc, tritonclient.grpc, {}, {}),
            (
                "HTTP, version and request id named",
                http,
                tritonclient.http,
                {},
                {"model_version": version, "request_id": "7"},
            ),
            (
                "gRPC, version and request id named",
                grpc,
                tritonclient.grpc,
                {},
                {"model_version": version, "request_id": "7"},
            ),
        ]
        for way, client, module, how, named in ways:
            for samples in sorted({1, len(next(iter(feed.values())))}):
                part = {key: rows[:samples] for key, rows in feed.items()}
                inputs = [_input(module, key, rows, **how) for key, rows in part.items()]
                outputs = [module.InferRequestedOutput(key, **how) for key in wanted]
                found = client.infer(name, inputs, outputs=outputs, **named)
                yield Answer(way, samples, _difference(found, wanted, slice(samples)))


def gathered(server: Server, record: BundleRecord, largest: int, feed: Feed, wanted: Outputs) -> Answer:
    """Send a request for each sample at once, behind one of the largest batch that keeps the model busy meanwhile.

    So they gather, and what is answered came out of batches of several requests.
    """
    samples = len(next(iter(feed.values())))
    busy = {key: np.resize(rows, (max(largest, 1), *rows.shape[1:])) for key, rows in feed.items()}
    found: queue.Queue[tuple[slice | None, Any, Any]] = queue.Queue()

    def send(client: Any, rows: slice | None, values: Feed) -> None:
        inputs = [_input(tritonclient.grpc, key, one) for key, one in values.items()]
        client.async_infer(record.name, inputs, lambda result, error: found.put((rows, result, error)))

    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        send(client, None, busy)
        for place in range(samples):
            rows = slice(place, place + 1)
            send(client, rows, {key: values[rows] for key, values in feed.items()})
        worst = 0.0
        for _ in range(samples + 1):
            rows_, result, error = found.get(timeout=60)
            if error is not None:
                raise error
            worst = max(worst, 0.0 if rows_ is None else _difference(result, wanted, rows_))
    return Answer("gRPC, all at once", 1, worst)


def _input(module: Any, name: str, rows: Array, **how: Any) -> Any:
    given = module.InferInput(name, rows.shape, np_to_triton_dtype(rows.dtype))
    given.set_data_from_numpy(rows, **how)
    return given


def _difference(found: Any, wanted: Outputs, rows: slice) -> float:
    largest = 0.0
    for name, values in wanted.items():
        got = found.as_numpy(name)
        assert got.shape == values[rows].shape, f"{name}: {got.shape}, and {values[rows].shape} is wanted"
        assert got.dtype == values.dtype, f"{name}: {got.dtype}, and {values.dtype} is wanted"
        largest = max(largest, float(np.max(np.abs(got.astype(np.float64) - values[rows].astype(np.float64)))))
    return largest


def batches(server: Server, name: str) -> dict[int, int]:
    """Return how many batches of which size the server has run, its warm-up among them."""
    time.sleep(0.2)  # it counts a batch after it has answered
    with tritonclient.http.InferenceServerClient(server.http) as client:
        models = client.get_inference_statistics(name)["model_stats"]
    sizes: dict[int, int] = {}
    for model in models:
        for one in model["batch_stats"]:
            sizes[one["batch_size"]] = sizes.get(one["batch_size"], 0) + one["compute_infer"]["count"]
    return sizes


def top_label(server: Server, record: BundleRecord, feed: Feed, output: str) -> str:
    """Return the label that Triton gives the first sample's largest number."""
    with tritonclient.http.InferenceServerClient(server.http) as client:
        inputs = [_input(tritonclient.http, key, rows[:1]) for key, rows in feed.items()]
        asked = [tritonclient.http.InferRequestedOutput(output, class_count=1)]
        said: bytes = client.infer(record.name, inputs, outputs=asked).as_numpy(output).flat[0]
    return said.decode().rpartition(":")[2]
