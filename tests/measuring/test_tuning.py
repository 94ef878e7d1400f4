"""Tuning takes a way only where it is faster beyond the noise, and computes the same."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import made_cells
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline import environment
from pipeline.artifacts.runner import BatchRange, Step
from pipeline.errors import BatchOutsideProfile
from pipeline.measuring import clock, tuning
from pipeline.runners import Runner
from pipeline.tensors import Feed, Outputs, TensorSpec


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


class Following(Clockwork):
    """One that changes its steps."""

    def follow(self, steps: Sequence[Step]) -> None:
        (self.way,) = steps or (tuning.DEFAULT,)


@dataclass(frozen=True)
class Clocked(Runner):
    """A runner whose sessions are clockworks, one for each way, or one that follows every way."""

    cost_us: Callable[[Step, int], float] = lambda way, batch: 1.0
    largest: int = 10**9
    follows: bool = False
    opened: list[Step] = field(default_factory=list)

    @contextmanager
    def open(self) -> Iterator[Clockwork]:
        (way,) = self.record.options.steps or (tuning.DEFAULT,)
        self.opened.append(way)
        yield (Following if self.follows else Clockwork)(way, self.cost_us, self.largest)


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Step, ...]]:
    """A function that tunes a model whose times, for each way and batch, are as told."""

    def measure(call: Callable[[], object], **_: Any) -> np.ndarray:
        start = Clockwork.clock_us
        call()
        return np.array([int((Clockwork.clock_us - start) * 1e3)])

    monkeypatch.setattr(clock, "measure", measure)
    monkeypatch.setattr(environment, "cpu_count", lambda: 2)

    def run(
        cost_us: Callable[[Step, int], float],
        name: str = "onnxruntime cpu fp32",
        *,
        opened: list[Step] | None = None,
        **options: Any,
    ) -> tuple[Step, ...]:
        one = runner(name)
        opened = [] if opened is None else opened
        found = tuning.tune(
            Clocked(one.record, one.path, one.device, one.module, cost_us=cost_us, opened=opened, **options)
        )
        return found.steps

    return run


def runner(name: str = "onnxruntime cpu fp32", path: Path = Path("model.onnx")) -> Runner:
    """Return a runner; an engine has a profile."""
    on_gpu = "cpu" not in name
    profile = BatchRange(smallest=1, largest=1024) if name.startswith("tensorrt") else None
    return made_cells.runner(name, path=path, device="cuda" if on_gpu else "cpu", batches=profile)


def test_what_is_not_faster_is_not_taken(tuned: Callable[..., tuple[Step, ...]]) -> None:
    assert tuned(lambda way, batch: 10.0 * batch) == ()
    assert tuned(lambda way, batch: 10.0 * batch * (0.97 if way.chunk or way.threads else 1)) == ()
    assert tuned(lambda way, batch: 10.0 * batch * (2 if way.chunk or way.threads else 1)) == ()


def test_the_fastest_chunk_is_taken_from_where_it_pays(tuned: Callable[..., tuple[Step, ...]]) -> None:
    def cache(way: Step, batch: int) -> float:
        piece = way.chunk or batch
        return 100 * (batch + 20 * batch / piece) * (3 if piece > 100 else 1)

    assert tuned(cache) == (Step(batch=256, chunk=64),)
    assert tuned(cache, name="onnxruntime cuda fp32") == (Step(batch=256, chunk=64),)


def test_a_way_good_at_one_size_only_ends_there(tuned: Callable[..., tuple[Step, ...]]) -> None:
    one_thread = tuned(lambda way, batch: 10.0 * batch * (1 if way.threads is None else 0.5 if batch == 1 else 1.2))
    assert one_thread == (Step(batch=1, threads=1), Step(batch=2))
    no_slower = tuned(lambda way, batch: 10.0 * batch * (0.5 if way.threads == 1 and batch == 1 else 1))
    assert no_slower == (Step(batch=1, threads=1), Step(batch=8))
    short_calls = tuned(lambda way, batch: 10.0 * batch * (0.5 if way.threads == 1 else 1))
    # One thread is not even tried where a call takes long, and so not followed there.
    assert short_calls == (Step(batch=1, threads=1), Step(batch=9))
    chunk = tuned(lambda way, batch: 10.0 * batch * (1 if way.chunk is None else 0.5 if batch == 64 else 1.2))
    assert chunk == (Step(batch=64, chunk=16), Step(batch=65))


def test_a_way_is_left_where_it_is_slower_at_the_next_size_and_kept_where_it_is_not(
    tuned: Callable[..., tuple[Step, ...]],
) -> None:
    def kept(way: Step, batch: int) -> float:
        gain = {(64, 32): 0.5, (256, 32): 0.9, (256, 128): 0.4, (1024, 128): 0.5}.get((batch, way.chunk or 0), 1)
        return 10.0 * batch * gain

    assert tuned(kept) == (Step(batch=64, chunk=32), Step(batch=256, chunk=128))


def test_streams_are_for_engines(tuned: Callable[..., tuple[Step, ...]]) -> None:
    def overlap(way: Step, batch: int) -> float:
        return 100.0 * batch / (way.streams if (way.chunk or 0) >= 64 else 1)

    assert tuned(overlap, name="tensorrt tensorrt fp32") == (Step(batch=256, chunk=64, streams=3),)
    assert all(way.threads is None for way in tuning.candidates(runner("tensorrt tensorrt fp32"), 1024, 10))
    assert all(way.streams == 1 for way in tuning.candidates(runner(), 1024, 10))


def test_a_slow_model_and_one_with_a_limit_are_tuned_as_far_as_they_go(tuned: Callable[..., tuple[Step, ...]]) -> None:
    batches: set[int] = set()

    def slow(way: Step, batch: int) -> float:
        batches.add(batch)
        return 50_000.0 * batch  # 50 ms a sample: 64 of them take 3 s, 40 times

    tuned(slow)
    assert batches == {1}
    faster_in_chunks = tuned(lambda way, batch: 100.0 * batch * (0.5 if way.chunk == 16 else 1), largest=64)
    assert faster_in_chunks == (Step(batch=64, chunk=16),)


def test_a_session_that_changes_its_steps_is_loaded_once(tuned: Callable[..., tuple[Step, ...]]) -> None:
    def faster_in_chunks(way: Step, batch: int) -> float:
        return 100.0 * batch * (0.5 if way.chunk == 64 else 1)

    for follows in (True, False):
        opened: list[Step] = []
        assert tuned(faster_in_chunks, follows=follows, opened=opened) == (Step(batch=256, chunk=64),)
        assert opened[0] == tuning.DEFAULT
        assert (len(opened) == 1) == follows
        assert len(opened) == len(set(opened)), "no way is loaded twice"


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
    assert tuning.tune(runner(path=path)) == ((), ())


def test_a_graph_that_mixes_the_samples_is_not_run_in_pieces(tmp_path: Path) -> None:
    path = saved(tmp_path, helper.make_node("Softmax", ["x"], ["y"], axis=0), "batch")
    found = tuning.tune(runner(path=path), batches=(1, 64))
    assert all(step.chunk is None for step in found.steps)
    tried = [way.chunk for row in found.measured for way in row.ways]
    assert set(tried) == {None}, "what computes something else is not even timed"


def test_real_measurements_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MEASURE_S", 0.0005)
    path = saved(tmp_path, helper.make_node("Relu", ["x"], ["y"]), "batch")
    started = time.monotonic()
    found = tuning.tune(runner(path=path), batches=(1, 64), budget_s=60)
    assert time.monotonic() - started < 60
    assert [row.batch for row in found.measured] == [1, 64]
    at_64 = found.measured[1].ways
    assert at_64[0].chunk is None
    assert {16, 32} <= {way.chunk for way in at_64}
    assert all(way.us > 0 for way in at_64)
    assert len(at_64[0].rounds_us) == tuning.ROUNDS
    assert sum(way.taken for way in at_64) == 1
