"""Comparing two sets of outputs: the numbers and the verdicts, for one output and several."""

import numpy as np
import pytest
from made_outputs import dataset, kinds, yardstick
from numpy.typing import NDArray

from pipeline.artifacts.parity import OutputComparison
from pipeline.judging.choosing import Choosing
from pipeline.judging.comparing import compare, worst
from pipeline.paired import proportions
from pipeline.tensors import Array, Tolerance

STRICT = Tolerance(rtol=0, atol=1e-6)
CLASSES = 10


def scores(predicted: NDArray[np.int64], confidence: float = 0.9) -> NDArray[np.float32]:
    """Return class scores [samples, classes] with the highest at the predicted class."""
    rest = (1 - confidence) / (CLASSES - 1)
    return np.where(np.arange(CLASSES) == predicted[:, None], confidence, rest).astype(np.float32)


def judged(
    reference: Array,
    candidate: Array,
    targets: Array | None,
    budget: float | str = 0.5,
    tolerance: Tolerance = STRICT,
    task: str = "auto",
) -> OutputComparison:
    one = yardstick(reference, targets, task, budget)
    found = compare([one], {"out": reference}, {"out": candidate}, tolerance)
    assert (found.verdict, found.reason) == (found.outputs[0].verdict, found.outputs[0].reason)
    return found.outputs[0]


def compared(n: int, lost: int, gained: int, budget: float) -> OutputComparison:
    """Compare n samples; the reference is wrong on `gained` that the candidate knows, the candidate on `lost`."""
    labels = np.arange(n) % CLASSES
    reference, candidate = labels.copy(), labels.copy()
    reference[:gained] = (labels[:gained] + 1) % CLASSES
    candidate[gained : gained + lost] = (labels[gained : gained + lost] + 1) % CLASSES
    return judged(scores(reference), scores(candidate, 0.8), labels, budget)


def test_outputs_within_the_tolerance_pass(random: np.random.Generator) -> None:
    reference = random.random((50, CLASSES), dtype=np.float32)
    candidate = reference + np.float32(5e-4)
    # No accuracy could pass a budget of nothing on 50 samples: it is the tolerance that decides.
    found = judged(reference, candidate, reference.argmax(axis=1), 0, Tolerance(rtol=0, atol=1e-3))
    assert (found.verdict, found.samples, found.agreement) == ("pass", 50, 1.0)
    assert "atol 0.001" in found.reason
    assert found.max_abs == pytest.approx(5e-4, rel=1e-3)
    assert found.mean_abs == pytest.approx(5e-4, rel=1e-3)


def test_one_element_beyond_the_tolerance_leaves_it_to_the_accuracy(random: np.random.Generator) -> None:
    reference = random.random((50, CLASSES), dtype=np.float32)
    candidate = reference.copy()
    candidate[49, 9] += np.float32(2e-3)
    found = judged(reference, candidate, reference.argmax(axis=1), 0, Tolerance(rtol=0, atol=1e-3))
    assert found.verdict == "inconclusive"
    assert found.max_abs == pytest.approx(2e-3, rel=1e-3)
    assert found.mean_abs == pytest.approx(2e-3 / 500, rel=1e-3)


def test_the_numbers_of_a_comparison_are_those_of_its_table() -> None:
    found = compared(n=1000, lost=20, gained=5, budget=0.5)
    assert (found.reference, found.candidate) == (0.995, 0.98)
    assert (found.metric, found.unit, found.direction, found.labels) == ("accuracy", "points", "higher", True)
    assert found.agreement == 0.975
    assert found.loss == pytest.approx(1.5)
    assert found.loss_ci95 == pytest.approx(tuple(100 * x for x in proportions.drop_interval(20, 5, 1000)))
    assert found.p == proportions.mcnemar_p(20, 5)
    assert found.interval.startswith("Tango's score interval")


@pytest.mark.parametrize(
    ("n", "lost", "gained", "budget", "verdict"),
    [
        (2000, 0, 0, 0.5, "pass"),  # at most z²/(n + z²), 0.19 points
        (360, 0, 0, 0.5, "inconclusive"),  # 1.06 points
        (2000, 5, 9, 0.5, "pass"),
        (2000, 100, 0, 0.5, "fail"),
        (1000, 8, 0, 0.5, "inconclusive"),
        (2000, 0, 100, 0.0, "pass"),  # better than the reference
    ],
)
def test_beyond_the_tolerance_the_interval_of_the_drop_decides(
    n: int, lost: int, gained: int, budget: float, verdict: str
) -> None:
    found = compared(n, lost, gained, budget)
    assert found.loss_ci95 is not None
    low, high = found.loss_ci95
    assert found.verdict == verdict
    assert {"pass": high <= budget, "fail": low > budget, "inconclusive": low <= budget < high}[verdict]
    assert f"budget {budget:g}" in found.reason
    assert found.reason.startswith("accuracy drop ")


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 360), (1, 0, 360), (8, 0, 1000), (30, 12, 2000)])
def test_the_samples_said_to_settle_do_and_notably_fewer_do_not(lost: int, gained: int, n: int) -> None:
    needed = proportions.samples_to_settle(lost, gained, n, budget=0.005)
    assert needed is not None
    assert f"about {needed:,} samples would settle it" in compared(n, lost, gained, 0.5).reason

    def settled(samples: float) -> bool:
        low, high = proportions.drop_interval(lost * samples / n, gained * samples / n, samples)
        return 100 * high <= 0.5 or 100 * low > 0.5

    assert settled(needed)
    assert not settled(0.98 * needed)


def test_a_drop_as_large_as_the_budget_is_never_settled() -> None:
    assert proportions.samples_to_settle(10, 0, 2000, budget=0.005) is None
    found = compared(2000, 10, 0, 0.5)
    assert found.verdict == "inconclusive"
    assert "too near the budget" in found.reason


@pytest.mark.parametrize("broken", ["candidate", "reference", "both"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["softmax", "numbers", "pixels", "embedding"])
def test_outputs_that_are_not_numbers_fail_with_their_count(broken: str, value: float, kind: str) -> None:
    known = kinds()[kind]
    outputs = {"reference": known.outputs.copy(), "candidate": known.outputs.copy()}
    for name in outputs if broken == "both" else [broken]:
        flat = outputs[name].reshape(len(outputs[name]), -1)
        flat[[3, 5, 5, 59], [0, 1, 2, 3]] = value
    one = yardstick(known.outputs, known.targets, known.task, 100.0)
    found = compare([one], {"out": outputs["reference"]}, {"out": outputs["candidate"]}, Tolerance(1, 1)).outputs[0]
    assert found.verdict == "fail"
    assert "3 of 60 samples" in found.reason
    assert (found.max_abs, found.mean_abs) == (None, None)


@pytest.mark.parametrize(
    ("reference", "candidate", "labels"),
    [((4, 10), (4, 9), 4), ((4, 10), (3, 10), 4), ((4, 10), (4, 10), 3)],
)
def test_what_does_not_belong_together_is_not_compared(
    reference: tuple[int, int], candidate: tuple[int, int], labels: int
) -> None:
    one = yardstick(np.zeros((labels, 10), np.float32), np.zeros(labels, np.int64))
    with pytest.raises(ValueError, match="cannot compare"):
        compare([one], {"out": np.zeros(reference)}, {"out": np.zeros(candidate)}, STRICT)


@pytest.mark.parametrize(("off", "verdict"), [(0.001, "pass"), (0.3, "fail")])
def test_a_regression_is_judged_by_its_error_against_the_originals(
    random: np.random.Generator, off: float, verdict: str
) -> None:
    truth = random.normal(50, 10, 400).astype(np.float32)
    reference = (truth + random.normal(0, 2, 400))[:, None].astype(np.float32)
    candidate = reference + np.sign(reference - truth[:, None]) * off
    found = judged(reference, candidate, truth, "auto")
    assert found.reference == pytest.approx(np.abs(reference[:, 0] - truth).mean(), rel=1e-5)
    assert found.loss == pytest.approx(off, rel=1e-3)
    assert found.budget == pytest.approx(0.02 * (found.reference or 0))
    assert (found.verdict, found.unit, found.direction) == (verdict, "target's unit", "lower")
    assert found.reason.startswith("mean absolute error rise at ")
    assert found.p is None
    assert "bootstrap" in found.interval


def test_an_improvement_is_a_negative_loss_whichever_way_the_metric_goes(random: np.random.Generator) -> None:
    truth = random.normal(size=100).astype(np.float32)
    found = judged(truth[:, None] + 1, truth[:, None] + np.float32(0.5), truth, 0.0)
    assert found.loss == pytest.approx(-0.5, rel=1e-5)
    assert found.verdict == "pass"


def test_too_few_samples_for_an_interval_prove_nothing() -> None:
    truth = np.arange(5, dtype=np.float32)
    found = judged(truth[:, None] + 1, truth[:, None] + 1.1, truth, 10.0)
    assert (found.verdict, found.loss_ci95) == ("inconclusive", None)
    assert "5 samples are too few" in found.reason


def test_without_labels_the_same_answers_count_and_the_reason_says_so(random: np.random.Generator) -> None:
    reference = scores(np.arange(1000) % CLASSES)
    candidate = reference.copy()
    candidate[:100] = np.roll(candidate[:100], 1, axis=1)
    found = judged(reference, candidate, None)
    assert (found.reference, found.candidate, found.labels) == (1.0, 0.9, False)
    assert found.verdict == "fail"
    assert found.reason.startswith("agreement with the original, no labels: same answers drop at least ")
    assert found.measured == "agreement with the original, no labels: same answers"


def test_several_outputs_are_judged_each_and_the_worst_decides(random: np.random.Generator) -> None:
    known = kinds()
    names = {"kind": "softmax", "age": "number", "mask": "pixels"}
    original = {name: known[kind].outputs for name, kind in names.items()}
    targets = {name: known[kind].targets for name, kind in names.items() if name != "mask"}
    yardsticks = Choosing(dataset(**targets)).yardsticks(original, targets)
    worse = original | {"age": original["age"] + 50}
    found = compare(yardsticks, original, worse, STRICT)
    assert [(row.output, row.task, row.verdict) for row in found.outputs] == [
        ("kind", "classification", "pass"),
        ("age", "regression", "fail"),
        ("mask", "segmentation", "pass"),
    ]
    assert found.verdict == "fail"
    assert found.reason.startswith("age: mean absolute error rise at least ")
    assert [row.labels for row in found.outputs] == [True, True, False]
    assert found.mean_abs == pytest.approx(50, rel=1e-4)


def test_more_than_is_held_in_memory_at_once_is_compared_alike(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = kinds()
    for name in ("softmax", "numbers", "pixels", "embedding"):
        kind = known[name]
        worse = {"out": kind.outputs[::-1].copy()}
        whole = compare([yardstick(kind.outputs, kind.targets)], {"out": kind.outputs}, worse, STRICT)
        monkeypatch.setattr("pipeline.judging.yardstick.AT_ONCE", 7 * kind.outputs[0].size)
        parts = compare([yardstick(kind.outputs, kind.targets)], {"out": kind.outputs}, worse, STRICT)
        monkeypatch.undo()
        for key, value in whole.outputs[0].model_dump(exclude={"reason"}).items():
            found = getattr(parts.outputs[0], key)
            assert found == (value if isinstance(value, str | None) else pytest.approx(value)), key


def test_on_random_inputs_nothing_but_the_tolerance_decides() -> None:
    reference = {"out": scores(np.arange(1000) % CLASSES)}
    choosing = Choosing(dataset().model_copy(update={"random": True}))
    yardsticks = choosing.yardsticks(reference, {})
    worse = {"out": np.roll(reference["out"], 1, axis=1)}
    found = compare(yardsticks, reference, worse, STRICT)
    assert found.verdict == "inconclusive"
    assert "on random inputs nothing says" in found.reason
    assert compare(yardsticks, reference, reference, STRICT).verdict == "pass"
    assert compare(yardsticks, reference, {"out": worse["out"] * np.nan}, STRICT).verdict == "fail"


def test_the_worst_verdict_counts() -> None:
    assert worst(["pass", "inconclusive", "skipped"]) == "inconclusive"
    assert worst(["inconclusive", "fail", "pass"]) == "fail"
    assert worst(["skipped"]) == worst([]) == "pass"
