"""The clock: what it counts and what it leaves out; and cells, timed in turn in processes of their own."""

import gc
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends import LoadOptions
from pipeline.measuring import harness
from pipeline.measuring.harness import Contender, Timing
from pipeline.tensors import Array

QUICK = Timing(seconds=0.02, min_samples=9, rounds=3, warmup_s=0.05)


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
    gc.disable()
    try:
        harness.measure(int, warmup_s=0, min_duration_s=1e-6, min_samples=1)
        assert not gc.isenabled(), "where it was off it stays off"
    finally:
        gc.enable()


def test_warms_up_until_the_level_is_stable() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(max(0.03 * 0.8**calls, 0.005))  # falls until the eighth call

    found = harness.warm_up(call, limit_s=30)
    assert found["stable"]
    assert found["calls"] == calls >= 8 + harness.WINDOW_CALLS, "a window at the last level, and one more like it"


def test_a_warm_up_ends_at_its_limit_and_says_that_the_level_was_not_stable() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.001 * 1.3**calls)

    found = harness.warm_up(call, limit_s=0.1)
    assert not found["stable"]
    assert found["calls"] == calls >= 1
    assert harness.warm_up(call, limit_s=0)["calls"] == 1


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8))
    return path


def contender(main_job: Path, module: str = "onnxruntime", variant: str = "cpu", skip: str = "") -> Contender:
    path = main_job / "artifacts/engine/fp32/model.onnx"
    return Contender(f"pipeline.backends.{module}", variant, "fp32", path, LoadOptions(variant), skip=skip)


def nothing_wrong(one: Contender, scores: Array, reference: Array | None) -> str:
    return ""


def test_every_cell_is_timed_in_turn_in_every_round(main_job: Path, images: Path) -> None:
    runner, null = contender(main_job), contender(main_job, "null", "harness")
    told: list[str] = []
    contenders = [null, runner, replace(runner, twin=True), contender(main_job, skip="not today")]
    cells, interrupted = harness.time_batch(contenders, images, 4, QUICK, nothing_wrong, told.append)
    assert not interrupted
    assert [cell.status for cell in cells] == ["ok", "ok", "ok", "skipped"]
    assert len(told) == harness.steps(contenders, QUICK)
    for number in (1, 2, 3):
        names = [what.partition(": ")[2] for what in told if what.startswith(f"round {number} ")]
        assert sorted(names) == sorted(map(str, contenders[:3]))
    assert len({cell.key for cell in cells[:3]}) == 3, "the twin has a key of its own"
    for cell in cells[:3]:
        assert len(cell.rounds) == 3
        row = cell.row()
        assert row["samples"] == sum(map(len, cell.rounds)) >= 9
        assert row["items_per_s"] > 0
        assert row["warmup"]["calls"] >= 1
        assert set(row["conditions"]) == {"start", "end"}
        assert row["mode"] == "end_to_end", "on a CPU nothing has to be moved to a device"


def test_outputs_are_checked_before_and_after_a_cell_is_timed(main_job: Path, images: Path) -> None:
    seen: list[tuple[str, tuple[int, ...], bool]] = []

    def wrong(one: Contender, scores: Array, reference: Array | None) -> str:
        seen.append((one.backend, scores.shape, reference is not None))
        if one.backend == "null":
            return "zeros"
        return "another answer" if len(seen) > 2 else ""

    contenders = [contender(main_job), contender(main_job, "null", "harness")]
    cells, _ = harness.time_batch(contenders, images, 4, QUICK, wrong)
    first, null = cells
    assert (null.status, null.reason, null.rounds) == ("failed", "zeros", [])
    assert (first.status, first.reason) == ("failed", "after it was timed: another answer")
    assert seen == [("onnxruntime", (8, 10), False), ("null", (8, 10), True), ("onnxruntime", (8, 10), True)]


def test_a_contender_that_this_machine_lacks_or_that_breaks_leaves_the_others_alone(
    main_job: Path, images: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no model")
    good = contender(main_job)
    rtx = replace(
        good, module="pipeline.backends.tensorrt", variant="tensorrt-rtx", options=LoadOptions("tensorrt-rtx")
    )
    cells, _ = harness.time_batch(
        [good, replace(good, path=broken), rtx, replace(good, module="no.such.module")], images, 4, QUICK, nothing_wrong
    )
    assert cells[0].status == "ok"
    assert cells[1].status == "failed"
    assert "not a readable ONNX model" in cells[1].reason
    assert cells[2].reason
    assert cells[3].status == "skipped"
    assert "no module" in cells[3].reason.lower() or "No module" in cells[3].reason


def test_a_cell_that_did_not_run_has_no_numbers() -> None:
    contender = Contender("pipeline.backends.tensorrt", "tensorrt", "fp16", Path(), LoadOptions("tensorrt"))
    row = harness.Cell(contender, 1, "end_to_end", reason="no GPU").row()
    assert (row["backend"], row["status"], row["reason"]) == ("tensorrt", "skipped", "no GPU")
    assert row["samples"] == 0
    assert row["mean_us"] is row["p50_us"] is row["p50_ci95_us"] is row["items_per_s"] is None
