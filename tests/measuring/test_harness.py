"""Cells, timed in turn in processes of their own."""

from dataclasses import replace
from pathlib import Path

import made_cells
import numpy as np
import pytest

from pipeline.artifacts.results import NoiseFloor
from pipeline.measuring import harness, speedups
from pipeline.measuring.cells import Measurement, Schedule, Timed
from pipeline.runners import Runner
from pipeline.tensors import Outputs

QUICK = Schedule(seconds=0.02, min_samples=9, rounds=3, warmup_s=0.05)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npz"
    np.savez(path, image=np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8))
    return path


def runner(main_job: Path, name: str = "onnxruntime cpu fp32", **options: str) -> Runner:
    return made_cells.runner(name, path=main_job / "artifacts/engine/fp32/model.onnx", **options)


def nothing_wrong(one: Timed, found: Outputs, reference: Outputs | None) -> str:
    return ""


def test_every_cell_is_timed_in_turn_in_every_round(main_job: Path, images: Path) -> None:
    fp32, null = runner(main_job), made_cells.runner("null harness", role="harness", path=runner(main_job).path)
    told: list[str] = []
    timed = [Timed(null), Timed(fp32), Timed(fp32, repeat=True), Timed(runner(main_job, unavailable="not today"))]
    cells, interrupted = harness.time_batch(timed, images, 4, QUICK, nothing_wrong, told.append)
    assert not interrupted
    assert [cell.status for cell in cells] == ["ok", "ok", "ok", "skipped"]
    assert cells[3].reason == "not today"
    assert len(told) == harness.steps(timed, QUICK)
    for number in (1, 2, 3):
        names = [what.partition(": ")[2] for what in told if what.startswith(f"round {number} ")]
        assert sorted(names) == sorted(map(str, timed[:3]))
    rows = [cell.cell(None) for cell in cells]
    assert len({row.key for row in rows[:3]}) == 3, "the repeat has a key of its own"
    for row, cell in zip(rows[:3], cells, strict=False):
        assert len(cell.rounds) == 3
        assert row.timing is not None
        assert row.timing.samples == sum(map(len, cell.rounds)) >= 9
        assert row.timing.items_per_s > 0
        assert row.warmup is not None
        assert row.warmup.calls >= 1
        assert row.conditions.start is not None
        assert row.conditions.end is not None
        assert row.conditions.start.at_s < row.conditions.end.at_s
        assert row.mode == "end_to_end", "on a CPU nothing has to be moved to a device"
    saved = speedups.samples(cells)
    assert set(saved) == {f"{row.key}/round{index}" for row in rows[:3] for index in range(3)}
    np.testing.assert_array_equal(saved[f"{rows[2].key}/round1"], cells[2].rounds[1])


def test_outputs_are_checked_before_and_after_a_cell_is_timed(main_job: Path, images: Path) -> None:
    seen: list[tuple[str, tuple[int, ...], bool]] = []

    def wrong(one: Timed, found: Outputs, reference: Outputs | None) -> str:
        backend = one.runner.record.backend
        seen.append((backend, found["probabilities"].shape, reference is not None))
        if backend == "null":
            return "zeros"
        return "another answer" if len(seen) > 2 else ""

    timed = [Timed(runner(main_job)), Timed(runner(main_job, "null harness"))]
    cells, _ = harness.time_batch(timed, images, 4, QUICK, wrong)
    first, null = cells
    assert (null.status, null.reason, null.rounds) == ("failed", "zeros", [])
    assert (first.status, first.reason) == ("failed", "after it was timed: another answer")
    assert seen == [("onnxruntime", (8, 10), False), ("null", (8, 10), True), ("onnxruntime", (8, 10), True)]


def test_a_runner_that_this_machine_lacks_or_that_breaks_leaves_the_others_alone(
    main_job: Path, images: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no model")
    good, absent = runner(main_job), runner(main_job, "tensorrt tensorrt-rtx fp32")
    changed = replace(good, record=good.record.model_copy(update={"sha256": "0" * 64}))
    bug = replace(good, module="no.such.module")
    timed = [Timed(one) for one in (good, replace(good, path=broken), changed, absent, bug)]
    cells, _ = harness.time_batch(timed, images, 4, QUICK, nothing_wrong)
    assert cells[0].status == "ok"
    assert cells[1].status == "failed"
    assert "not a readable ONNX model" in cells[1].reason
    assert cells[2].status == "failed"
    assert "has changed since it was published" in cells[2].reason
    assert cells[3].reason
    assert cells[3].status != "ok"
    assert cells[4].status == "failed"
    assert "ModuleNotFoundError" in cells[4].reason


def test_a_cell_that_did_not_run_has_no_numbers() -> None:
    one = made_cells.runner("tensorrt tensorrt fp16", "fp16", device="cuda")
    row = Measurement(Timed(one), 1, "end_to_end", reason="no GPU").cell(None)
    assert (row.runner.backend, row.status, row.reason) == ("tensorrt", "skipped", "no GPU")
    assert row.timing is row.device is row.warmup is row.limit is None


def test_a_repeat_is_made_of_the_first_runner_of_each_kind_of_device() -> None:
    absent = made_cells.runner("openvino cpu fp32", unavailable="not installed")
    keras = made_cells.runner("tensorflow call", role="original")
    first, second = made_cells.runner("onnxruntime cpu fp32"), made_cells.runner("onnxruntime cpu int8", "int8")
    gpu = made_cells.runner("onnxruntime cuda fp32", device="cuda")
    found = speedups.with_repeats([keras, absent, first, second, gpu], lambda one: one.record.role == "exported")
    assert [(one.runner.record.name, one.repeat) for one in found] == [
        ("tensorflow call", False),
        ("openvino cpu fp32", False),
        ("onnxruntime cpu fp32", False),
        ("onnxruntime cpu fp32", True),
        ("onnxruntime cpu int8", False),
        ("onnxruntime cuda fp32", False),
        ("onnxruntime cuda fp32", True),
    ]
    assert str(found[3]) == "onnxruntime cpu fp32 (A/A repeat)"
    assert found[1].skip == "not installed"


def test_the_noise_floor_is_of_a_repeat_against_what_it_repeats() -> None:
    one, other = made_cells.runner("onnxruntime cpu fp32"), made_cells.runner("openvino cpu fp32")
    cells = [
        made_cells.measurement(one, [10, 10, 10]),
        made_cells.measurement(one, [10, 10.4, 9.8], repeat=True),
        made_cells.measurement(other, [90, 90, 90]),
        made_cells.measurement(one, [20, 20, 20], batch=16),
        made_cells.measurement(one, [22, 22, 22], batch=16, repeat=True),
    ]
    first, second = speedups.noise_floors(cells)
    assert (first.batch, first.mode, first.device, first.runner) == (1, "end_to_end", "cpu", one.record.name)
    assert first.floor == pytest.approx(1 - 10 / 10.4)
    assert (second.batch, second.ratio, second.floor) == (16, pytest.approx(20 / 22), pytest.approx(1 - 20 / 22))
    cells[0].status = "failed"
    assert [row.batch for row in speedups.noise_floors(cells)] == [16]


def test_the_floor_between_two_is_that_of_their_devices_and_an_unknown_one_is_taken_for_the_noisiest() -> None:
    def floor(device: str, fraction: float, batch: int = 1) -> NoiseFloor:
        what = {"mode": "end_to_end", "runner": "one", "ratio": 1.0, "ratio_ci95": None, "floor": fraction}
        return NoiseFloor(batch=batch, device=device, **what)

    one = made_cells.runner("onnxruntime cpu fp32")
    cpu, cuda, other = (made_cells.measurement(one, [1], device=device) for device in ("cpu", "cuda:0", "cuda:1"))
    floors = [floor("cpu", 1.178), floor("cuda:0", 0.086), floor("cuda:0", 9.0, batch=16)]
    assert speedups.floor_between(cuda, cuda, floors) == 0.086
    assert speedups.floor_between(cpu, cuda, floors) == speedups.floor_between(cuda, cpu, floors) == 1.178
    assert speedups.floor_between(other, cuda, floors) == 1.178
    assert speedups.floor_between(cuda, cuda, []) == 0
    compute = made_cells.measurement(one, [1], device="cuda:0", mode="compute")
    assert speedups.floor_between(compute, compute, floors) == 0


def test_speedups_are_over_each_way_to_run_the_original_the_strongest_first() -> None:
    call = made_cells.measurement(made_cells.runner("tensorflow call", role="original"), made_cells.around(900))
    function = made_cells.measurement(made_cells.runner("tensorflow function", role="original"), made_cells.around(400))
    null = made_cells.measurement(made_cells.runner("null harness", role="harness"), made_cells.around(0.3))
    fp32 = made_cells.measurement(made_cells.runner("onnxruntime cpu fp32"), made_cells.around(20))
    again = made_cells.measurement(made_cells.runner("onnxruntime cpu fp32"), made_cells.around(21), repeat=True)
    int8 = made_cells.measurement(made_cells.runner("onnxruntime cpu int8", "int8"), made_cells.around(401))
    cells = [call, function, null, fp32, again, int8]
    floors = speedups.noise_floors(cells)
    found = speedups.speedups(cells, floors, speedups.is_original)
    assert [(row.runner, row.over, row.verdict) for row in found] == [
        ("onnxruntime cpu fp32", "tensorflow function", "faster"),
        ("onnxruntime cpu fp32", "tensorflow call", "faster"),
        ("onnxruntime cpu int8", "tensorflow function", "no significant difference"),
        ("onnxruntime cpu int8", "tensorflow call", "faster"),
    ]
    assert [row.ratio for row in found] == pytest.approx([20, 45, 400 / 401, 900 / 401])
