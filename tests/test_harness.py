"""The clock: what it counts and what it leaves out."""

import gc
from pathlib import Path

import numpy as np
import pytest

from pipeline import harness
from pipeline.backends import LoadOptions
from pipeline.config import Benchmark


def test_counts_until_both_the_time_and_the_number_are_reached() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    samples = harness.measure(call, warmup_s=0, min_duration_s=1e-9, min_samples=50)
    assert samples.dtype == np.int64
    assert len(samples) == 50
    assert calls == 51, "one call before the clock starts"
    assert (samples > 0).all()
    longer = harness.measure(call, warmup_s=0, min_duration_s=0.01, min_samples=1)
    assert longer.sum() >= 0.01e9


def test_leaves_garbage_collection_as_it_was_even_after_a_failure() -> None:
    def fails() -> None:
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError):
        harness.measure(fails, warmup_s=0, min_duration_s=0.01, min_samples=1)
    assert gc.isenabled()


def test_every_cell_is_timed_in_turn_in_every_round() -> None:
    order: list[str] = []
    cells = []
    for name in ("a", "b", "c"):
        contender = harness.Contender("null", name, "fp32", Path(), LoadOptions("harness"))
        cells.append(harness.Cell(contender, 4, "compute", status="ok", call=lambda name=name: order.append(name)))
    options = Benchmark(warmup_s=0, min_duration_s=1e-6, min_samples=9, rounds=3)
    harness.fill(cells, options)
    turns = [name for index, name in enumerate(order) if index == 0 or order[index - 1] != name]
    assert sorted(turns[:3]) == ["a", "b", "c"]
    for cell in cells:
        assert len(cell.rounds) == 3
        row = cell.row()
        assert row["samples"] == sum(map(len, cell.rounds)) >= 9
        assert row["items_per_s"] > 0


def test_a_cell_that_did_not_run_has_no_numbers() -> None:
    contender = harness.Contender("tensorrt", "tensorrt", "fp16", Path(), LoadOptions("tensorrt"))
    row = harness.Cell(contender, 1, "end_to_end", reason="no GPU").row()
    assert row["status"] == "skipped"
    assert row["reason"] == "no GPU"
    assert row["samples"] == 0
    assert row["mean_us"] is row["p50_us"] is row["items_per_s"] is None
