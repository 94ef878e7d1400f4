"""Which runner is recommended: the fastest that passed, and the simplest where nothing tells them apart."""

from collections.abc import Sequence

import made_records
import numpy as np
import pytest
from made_cells import around, measurement, runner

from pipeline.artifacts.parity import ParityReport, Verdict
from pipeline.artifacts.recommendation import Choice, Recommendation
from pipeline.artifacts.results import Mode, NoiseFloor
from pipeline.artifacts.runner import RunnerOptions
from pipeline.measuring.cells import Measurement
from pipeline.measuring.recommend import recommend
from pipeline.runners import Runner

FP32, OPENVINO = runner("onnxruntime cpu fp32"), runner("openvino cpu fp32")
FP16, INT8 = runner("onnxruntime cpu fp16", "fp16"), runner("onnxruntime cpu int8", "int8")


def parity(**verdicts: Verdict) -> ParityReport:
    """Return a report of the four runners, all of which passed unless told otherwise."""
    judged = []
    for name, one in (("fp32", FP32), ("openvino", OPENVINO), ("fp16", FP16), ("int8", INT8)):
        verdict = verdicts.get(name, "pass")
        of_one = made_records.judged_as(one.record, made_records.comparison())
        judged.append(of_one.model_copy(update={"verdict": verdict, "reason": f"it is {verdict}"}))
    return made_records.parity(*judged)


def floor(fraction: float, batch: int = 1, mode: Mode = "end_to_end", device: str = "cpu") -> NoiseFloor:
    return NoiseFloor(batch=batch, mode=mode, device=device, runner="one", ratio=1.0, ratio_ci95=None, floor=fraction)


def recommended(
    cells: Sequence[Measurement], report: ParityReport | None = None, floors: Sequence[NoiseFloor] = ()
) -> Recommendation:
    return recommend(cells, report or parity(), floors, made_records.MACHINE)


def latency(found: Recommendation, batch: int = 1) -> Choice:
    (choice,) = [one for one in found.choices if (one.batch, one.goal) == (batch, "latency")]
    return choice


def test_the_fastest_that_passed_is_chosen_and_all_are_ranked() -> None:
    cells = [measurement(FP32, around(30)), measurement(OPENVINO, around(10)), measurement(INT8, around(20))]
    found = recommended(cells, floors=[floor(0.05)])
    assert found.machine == made_records.MACHINE
    choice = latency(found)
    assert (choice.runner, choice.device, choice.unit) == (OPENVINO.record, "cpu", "us")
    assert choice.value == pytest.approx(10)
    assert (choice.next, choice.verdict) == (INT8.record.name, "faster")
    assert choice.ratio == pytest.approx(2)
    low, high = choice.ratio_ci95 or (0, 0)
    assert low <= 2 <= high
    assert "beyond the noise of 5.0%" in choice.reason
    assert [row.runner for row in choice.ranking] == [one.record.name for one in (OPENVINO, INT8, FP32)]
    assert [row.value for row in choice.ranking] == pytest.approx([10, 20, 30])
    assert found.excluded == ()


def test_the_ratio_and_its_interval_are_over_rounds_in_which_both_were_timed() -> None:
    drift = [1, 5, 2, 3, 1, 4, 2, 2, 3, 1]
    cells = [measurement(one, [us * times for times in drift]) for one, us in ((FP32, 30), (OPENVINO, 10))]
    choice = latency(recommended(cells))
    assert (choice.ratio, choice.ratio_ci95) == (pytest.approx(3), pytest.approx((3, 3)))


@pytest.mark.parametrize("verdict", ["fail", "inconclusive", "skipped"])
def test_a_faster_one_that_did_not_pass_is_excluded_with_its_reason(verdict: Verdict) -> None:
    cells = [measurement(FP32, around(30)), measurement(INT8, around(1))]
    found = recommended(cells, parity(int8=verdict))
    assert {choice.runner for choice in found.choices} == {FP32.record}
    assert all(INT8.record.name not in str(choice.ranking) for choice in found.choices)
    (excluded,) = found.excluded
    assert (excluded.runner, excluded.reason) == (INT8.record.name, f"validation: {verdict}, it is {verdict}")


def with_threads(one: Runner) -> Runner:
    record = one.record.model_copy(update={"options": RunnerOptions(threads=7)})
    return Runner(record, one.path, one.device, one.module)


@pytest.mark.parametrize("unjudged", [runner("tensorrt tensorrt fp16", "fp16"), with_threads(INT8)])
def test_what_was_never_judged_or_with_other_options_is_excluded(unjudged: Runner) -> None:
    found = recommended([measurement(FP32, around(30)), measurement(unjudged, around(1))])
    assert latency(found).runner == FP32.record
    (excluded,) = found.excluded
    assert (excluded.runner, excluded.reason) == (unjudged.record.name, "validation: not judged")


def test_what_did_not_run_is_excluded_with_its_reason_once() -> None:
    skipped = [measurement(OPENVINO, around(1), batch=batch) for batch in (1, 16)]
    for cell in skipped:
        cell.status, cell.reason = "skipped", "not installed"
    found = recommended([measurement(FP32, around(30)), *skipped])
    (excluded,) = found.excluded
    assert (excluded.runner, excluded.reason) == (OPENVINO.record.name, "not installed")
    assert {choice.batch for choice in found.choices} == {1}


def test_where_nothing_tells_them_apart_the_widest_precision_is_chosen() -> None:
    cells = [measurement(INT8, around(20)), measurement(FP16, around(20.2)), measurement(FP32, around(20.4))]
    choice = latency(recommended(cells, floors=[floor(0.05)]))
    assert (choice.runner, choice.verdict) == (FP32.record, "no significant difference")
    assert choice.value == pytest.approx(20.4)
    assert choice.next == INT8.record.name, "the fastest other one"
    assert choice.ratio == pytest.approx(20 / 20.4)
    assert INT8.record.name in choice.reason
    assert FP16.record.name in choice.reason
    assert [row.runner for row in choice.ranking] == [one.record.name for one in (INT8, FP16, FP32)]


def test_where_nothing_tells_two_of_a_precision_apart_the_first_in_the_list_is_chosen() -> None:
    for first, second in ((FP32, OPENVINO), (OPENVINO, FP32)):
        choice = latency(
            recommended([measurement(first, around(20.2)), measurement(second, around(20))], floors=[floor(0.05)])
        )
        assert (choice.runner, choice.verdict) == (first.record, "no significant difference")


def test_a_simpler_one_that_is_slower_beyond_the_noise_is_not_chosen() -> None:
    cells = [measurement(INT8, around(20)), measurement(FP16, around(20.2)), measurement(FP32, around(30))]
    choice = latency(recommended(cells, floors=[floor(0.05)]))
    assert (choice.runner, choice.verdict) == (FP16.record, "no significant difference")
    assert FP32.record.name not in choice.reason


def test_a_difference_within_the_noise_floor_is_none_and_beyond_it_is_one() -> None:
    cells = [measurement(FP32, around(22, 0)), measurement(INT8, around(20, 0))]
    assert latency(recommended(cells, floors=[floor(0.11)])).runner == FP32.record
    assert latency(recommended(cells, floors=[floor(0.09)])).runner == INT8.record
    other = [floor(0.5, batch=16), floor(0.5, mode="compute")]
    assert latency(recommended(cells, floors=other)).runner == INT8.record, "of another batch size, of another mode"
    both = [floor(0.09), floor(0.5, device="cuda:0")]
    assert latency(recommended(cells, floors=both)).runner == INT8.record, "of a device that neither ran on"


def test_two_on_the_gpu_are_told_apart_however_noisy_the_cpu_is() -> None:
    """As on an H200 at batch 1024: fp16 took 400 µs and fp32 467, with noise of 8.6 %, and of 118 % on the CPU."""
    floors = [floor(1.178), floor(0.086, device="cuda:0")]
    cells = [
        measurement(FP32, around(467), device="cuda:0"),
        measurement(FP16, around(400), device="cuda:0"),
        measurement(OPENVINO, around(4720)),
    ]
    choice = latency(recommended(cells, floors=floors))
    assert (choice.runner, choice.next, choice.verdict) == (FP16.record, FP32.record.name, "faster")
    assert "beyond the noise of 8.6%" in choice.reason
    cells[2] = measurement(OPENVINO, around(700))
    choice = latency(recommended(cells, floors=floors))
    assert choice.verdict == "no significant difference", "the noise of the CPU counts where one of two ran there"
    assert "within the noise of 117.8%" in choice.reason


def test_rounds_that_contradict_each_other_tell_nothing() -> None:
    cells = [measurement(FP32, [10, 30] * 5), measurement(INT8, [25, 12] * 5)]
    choice = latency(recommended(cells))
    assert (choice.runner, choice.verdict) == (FP32.record, "no significant difference")


def test_batch_by_batch_and_goal_by_goal() -> None:
    outliers = [9.0] * 9 + [400.0]  # a good median, a bad mean

    def cells(batch: int, fast: Runner, slow: Runner) -> list[Measurement]:
        return [measurement(fast, around(9.5), batch=batch), measurement(slow, around(80), batch=batch)]

    found = recommended([*cells(1, FP32, INT8), *cells(64, INT8, FP32)])
    assert [(one.batch, one.goal, one.runner.name) for one in found.choices] == [
        (1, "latency", FP32.record.name),
        (1, "throughput", FP32.record.name),
        (64, "latency", INT8.record.name),
        (64, "throughput", INT8.record.name),
    ]
    throughput = found.choices[3]
    assert throughput.unit == "samples/s"
    assert throughput.value == pytest.approx(64 / 9.5e-6, rel=1e-3)
    assert [row.value for row in throughput.ranking] == pytest.approx([64 / 9.5e-6, 64 / 80e-6], rel=1e-3)
    uneven = measurement(OPENVINO, [10])
    uneven.rounds = [(np.array(outliers * 3) * 1e3).astype(np.int64) for _ in range(10)]
    by_goal = {one.goal: one.runner for one in recommended([measurement(FP32, around(30)), uneven]).choices}
    assert by_goal == {"latency": OPENVINO.record, "throughput": FP32.record}


def test_the_only_one_is_said_to_be_the_only_one() -> None:
    for choice in recommended([measurement(FP32, around(30))]).choices:
        assert (choice.runner, choice.verdict) == (FP32.record, "the only one")
        assert choice.next is choice.ratio is choice.ratio_ci95 is None
        assert len(choice.ranking) == 1


def test_nothing_that_passed_is_no_choice() -> None:
    assert recommended([]).choices == ()
    found = recommended([measurement(INT8, around(1))], parity(int8="fail"))
    assert found.choices == ()
    assert [one.runner for one in found.excluded] == [INT8.record.name]


def test_only_exported_runners_are_chosen_and_only_host_to_host() -> None:
    keras, null = runner("tensorflow function", role="original"), runner("null harness", role="harness")
    cells = [
        measurement(keras, around(1)),
        measurement(null, around(1)),
        measurement(FP32, around(30)),
        measurement(FP32, around(2), repeat=True),
        measurement(INT8, around(1), mode="compute"),
    ]
    found = recommended(cells)
    assert [row.runner for row in latency(found).ranking] == [FP32.record.name]
    assert latency(found).value == pytest.approx(30), "not the repeat's"
    assert found.excluded == ()


def test_too_few_samples_for_a_median_are_no_latency() -> None:
    few = measurement(INT8, [1.0])
    few.rounds = [few.rounds[0][:4]]
    found = recommended([few])
    assert [one.goal for one in found.choices] == ["throughput"]


def test_the_choice_for_a_batch_is_that_of_the_nearest_timed_below() -> None:
    found = recommended([measurement(FP32, around(30), batch=batch) for batch in (8, 64)])
    for batch, nearest in ((1, 8), (8, 8), (63, 8), (64, 64), (10_000, 64)):
        choice = found.choice(batch, "latency")
        assert choice is not None
        assert choice.batch == nearest
    assert recommended([]).choice(1, "latency") is None
