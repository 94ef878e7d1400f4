"""Tuning takes a way only where it is faster beyond the noise, and computes the same."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline import backends, environment
from pipeline.backends import LoadOptions, Step
from pipeline.errors import BatchOutsideProfile
from pipeline.measuring import harness, tuning
from pipeline.tensors import Feed, Outputs, TensorSpec, Tolerance

TOLERANCE = Tolerance(rtol=1e-5, atol=1e-5)


class Clockwork:
    """A session whose time is told by `cost_us`, not by this machine: `measure` below reads it."""

    inputs = (TensorSpec("x", (None, 2), np.dtype(np.float32)),)
    clock_us = 0.0

    def __init__(self, way: Step, cost_us: Callable[[Step, int], float], largest: int) -> None:
        self.way, self.cost_us, self.largest = way, cost_us, largest

    def run(self, feed: Feed) -> Outputs:
        if len(feed["x"]) > self.largest:
            raise BatchOutsideProfile("too large")
        Clockwork.clock_us += self.cost_us(self.way, len(feed["x"]))
        return {"y": feed["x"]}


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Step, ...]]:
    """A function that tunes a model whose times, for each way and batch, are as told."""

    def run(cost_us: Callable[[Step, int], float], variant: str = "cpu", largest: int = 10**9) -> tuple[Step, ...]:
        class Backend:
            @staticmethod
            @contextmanager
            def load(model: Path, options: LoadOptions) -> Iterator[Clockwork]:
                (way,) = options.plan or (Step(1),)
                yield Clockwork(way, cost_us, largest)

        def measure(call: Callable[[], object], **_: Any) -> np.ndarray:
            start = Clockwork.clock_us
            call()
            return np.array([int((Clockwork.clock_us - start) * 1e3)])

        monkeypatch.setattr(backends, "get", lambda name: Backend)
        monkeypatch.setattr(harness, "measure", measure)
        monkeypatch.setattr(environment, "cpu_count", lambda: 2)
        return tuning.tune("any", Path("model.onnx"), LoadOptions(variant), TOLERANCE).steps

    return run


def test_what_is_not_faster_is_not_taken(tuned: Callable[..., tuple[Step, ...]]) -> None:
    assert tuned(lambda way, batch: 10.0 * batch) == ()
    assert tuned(lambda way, batch: 10.0 * batch * (0.97 if way.chunk or way.threads else 1)) == ()
    assert tuned(lambda way, batch: 10.0 * batch * (2 if way.chunk or way.threads else 1)) == ()


def test_the_fastest_chunk_is_taken_from_where_it_pays(tuned: Callable[..., tuple[Step, ...]]) -> None:
    def cache(way: Step, batch: int) -> float:
        piece = way.chunk or batch
        return 100 * (batch + 20 * batch / piece) * (3 if piece > 100 else 1)

    assert tuned(cache) == (Step(256, chunk=64),)
    assert tuned(cache, variant="cuda") == (Step(256, chunk=64),)


def test_a_way_good_at_one_size_only_ends_there(tuned: Callable[..., tuple[Step, ...]]) -> None:
    one_thread = tuned(lambda way, batch: 10.0 * batch * (1 if way.threads is None else 0.5 if batch == 1 else 1.2))
    assert one_thread == (Step(1, threads=1), Step(2))
    no_slower = tuned(lambda way, batch: 10.0 * batch * (0.5 if way.threads == 1 and batch == 1 else 1))
    assert no_slower == (Step(1, threads=1), Step(8))
    short_calls = tuned(lambda way, batch: 10.0 * batch * (0.5 if way.threads == 1 else 1))
    # One thread is not even tried where a call takes long, and so not followed there.
    assert short_calls == (Step(1, threads=1), Step(9))
    chunk = tuned(lambda way, batch: 10.0 * batch * (1 if way.chunk is None else 0.5 if batch == 64 else 1.2))
    assert chunk == (Step(64, chunk=16), Step(65))


def test_a_way_is_left_where_it_is_slower_at_the_next_size_and_kept_where_it_is_not(
    tuned: Callable[..., tuple[Step, ...]],
) -> None:
    def kept(way: Step, batch: int) -> float:
        gain = {(64, 32): 0.5, (256, 32): 0.9, (256, 128): 0.4, (1024, 128): 0.5}.get((batch, way.chunk or 0), 1)
        return 10.0 * batch * gain

    assert tuned(kept) == (Step(64, chunk=32), Step(256, chunk=128))


def test_streams_are_for_engines(tuned: Callable[..., tuple[Step, ...]]) -> None:
    def overlap(way: Step, batch: int) -> float:
        return 100.0 * batch / (way.streams if (way.chunk or 0) >= 64 else 1)

    assert tuned(overlap, variant="tensorrt") == (Step(256, chunk=64, streams=3),)
    assert all(way.threads is None for way in tuning.candidates("tensorrt", 1024, 10))
    assert all(way.streams == 1 for way in tuning.candidates("cpu", 1024, 10))


def test_a_slow_model_and_one_with_a_limit_are_tuned_as_far_as_they_go(tuned: Callable[..., tuple[Step, ...]]) -> None:
    batches: set[int] = set()

    def slow(way: Step, batch: int) -> float:
        batches.add(batch)
        return 50_000.0 * batch  # 50 ms a sample: 64 of them take 3 s, 40 times

    tuned(slow)
    assert batches == {1}
    faster_in_chunks = tuned(lambda way, batch: 100.0 * batch * (0.5 if way.chunk == 16 else 1), largest=64)
    assert faster_in_chunks == (Step(64, chunk=16),)


def test_noise_is_no_gain(tuned: Callable[..., tuple[Step, ...]]) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        # As other processes make it: never less than the machine's own time, often some more, sometimes far more.
        found = tuned(lambda way, batch: 100.0 * batch * (1 + random.exponential(0.02) + 5 * (random.random() < 0.1)))
        assert found == ()


def saved(folder: Path, node: onnx.NodeProto, batch: str | int) -> Path:
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "m.onnx")
    return folder / "m.onnx"


def test_a_fixed_batch_is_left_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, helper.make_node("Relu", ["x"], ["y"]), 8)
    assert tuning.tune("onnxruntime", path, LoadOptions("cpu"), TOLERANCE) == ((), [])


def test_a_graph_that_mixes_the_samples_is_not_run_in_pieces(tmp_path: Path) -> None:
    path = saved(tmp_path, helper.make_node("Softmax", ["x"], ["y"], axis=0), "batch")
    found = tuning.tune("onnxruntime", path, LoadOptions("cpu"), TOLERANCE, batches=(1, 64))
    assert all(step.chunk is None for step in found.steps)
    tried = [way["chunk"] for row in found.measured for way in row["ways"]]
    assert set(tried) == {None}, "what computes something else is not even timed"


def test_real_measurements_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MEASURE_S", 0.0005)
    path = saved(tmp_path, helper.make_node("Relu", ["x"], ["y"]), "batch")
    started = time.monotonic()
    found = tuning.tune("onnxruntime", path, LoadOptions("cpu"), TOLERANCE, batches=(1, 64), budget_s=60)
    assert time.monotonic() - started < 60
    assert [row["batch"] for row in found.measured] == [1, 64]
    at_64 = found.measured[1]["ways"]
    assert at_64[0]["chunk"] is None
    assert {16, 32} <= {way["chunk"] for way in at_64}
    assert all(way["us"] > 0 for way in at_64)
    assert len(at_64[0]["rounds_us"]) == tuning.ROUNDS
    assert sum(way["taken"] for way in at_64) == 1
