"""Comparing the outputs of classifiers: the numbers and the verdicts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.artifacts.disagreements import Answer, DifferingSample
from pipeline.tasks import classification, paired_proportions
from pipeline.tasks.classification import Differing
from pipeline.tensors import Tolerance

Z = 1.959963984540054
STRICT = Tolerance(rtol=0, atol=1e-6)
CLASSES = 10


def scores(predicted: NDArray[np.int64], confidence: float = 0.9) -> NDArray[np.float32]:
    """Return class scores [samples, classes] with the highest at the predicted class."""
    rest = (1 - confidence) / (CLASSES - 1)
    return np.where(np.arange(CLASSES) == predicted[:, None], confidence, rest).astype(np.float32)


def compared(n: int, lost: int, gained: int, budget_pp: float) -> classification.Comparison:
    """Compare n samples; the reference is wrong on `gained` that the candidate knows, the candidate on `lost`."""
    labels = np.arange(n) % CLASSES
    reference, candidate = labels.copy(), labels.copy()
    reference[:gained] = (labels[:gained] + 1) % CLASSES
    candidate[gained : gained + lost] = (labels[gained : gained + lost] + 1) % CLASSES
    return classification.compare(scores(reference), scores(candidate, 0.8), labels, STRICT, budget_pp)


def test_outputs_within_the_tolerance_pass(random: np.random.Generator) -> None:
    reference = random.random((50, CLASSES), dtype=np.float32)
    candidate = reference + np.float32(5e-4)
    # No accuracy could pass a budget of nothing on 50 samples: it is the tolerance that decides.
    found = classification.compare(reference, candidate, reference.argmax(axis=1), Tolerance(rtol=0, atol=1e-3), 0)
    assert (found.verdict, found.samples, found.top1_agreement) == ("pass", 50, 1.0)
    assert "atol 0.001" in found.reason
    assert found.max_abs == pytest.approx(5e-4, rel=1e-3)
    assert found.mean_abs == pytest.approx(5e-4, rel=1e-3)


def test_one_element_beyond_the_tolerance_leaves_it_to_the_accuracy(random: np.random.Generator) -> None:
    reference = random.random((50, CLASSES), dtype=np.float32)
    candidate = reference.copy()
    candidate[49, 9] += np.float32(2e-3)
    found = classification.compare(reference, candidate, reference.argmax(axis=1), Tolerance(rtol=0, atol=1e-3), 0)
    assert found.verdict == "inconclusive"
    assert found.max_abs == pytest.approx(2e-3, rel=1e-3)
    assert found.mean_abs == pytest.approx(2e-3 / 500, rel=1e-3)


def test_the_numbers_of_a_comparison_are_those_of_its_table() -> None:
    found = compared(n=1000, lost=20, gained=5, budget_pp=0.5)
    assert (found.accuracy_reference, found.accuracy_candidate) == (0.995, 0.98)
    assert found.top1_agreement == 0.975
    assert found.accuracy_drop_pp == pytest.approx(1.5)
    assert found.accuracy_drop_ci95_pp == pytest.approx(
        tuple(100 * x for x in paired_proportions.drop_interval(20, 5, 1000))
    )
    assert found.mcnemar_p == paired_proportions.mcnemar_p(20, 5)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "budget_pp", "verdict"),
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
    n: int, lost: int, gained: int, budget_pp: float, verdict: str
) -> None:
    found = compared(n, lost, gained, budget_pp)
    low, high = found.accuracy_drop_ci95_pp
    assert found.verdict == verdict
    assert {"pass": high <= budget_pp, "fail": low > budget_pp, "inconclusive": low <= budget_pp < high}[verdict]
    assert f"budget {budget_pp:g}" in found.reason


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 360), (1, 0, 360), (8, 0, 1000), (30, 12, 2000)])
def test_the_samples_said_to_settle_do_and_notably_fewer_do_not(lost: int, gained: int, n: int) -> None:
    needed = paired_proportions.samples_to_settle(lost, gained, n, budget_pp=0.5)
    assert needed is not None
    assert f"about {needed:,} samples would settle it" in compared(n, lost, gained, 0.5).reason

    def settled(samples: float) -> bool:
        low, high = paired_proportions.drop_interval(lost * samples / n, gained * samples / n, samples)
        return 100 * high <= 0.5 or 100 * low > 0.5

    assert settled(needed)
    assert not settled(0.98 * needed)


def test_a_drop_as_large_as_the_budget_is_never_settled() -> None:
    assert paired_proportions.samples_to_settle(10, 0, 2000, budget_pp=0.5) is None
    found = compared(2000, 10, 0, 0.5)
    assert found.verdict == "inconclusive"
    assert "too near the budget" in found.reason


@pytest.mark.parametrize("broken", ["candidate", "reference", "both"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_numbers_fail_with_their_count(broken: str, value: float) -> None:
    labels = np.arange(100) % CLASSES
    outputs = {"reference": scores(labels), "candidate": scores(labels)}
    for name in outputs if broken == "both" else [broken]:
        outputs[name][[3, 5, 5, 99], [0, 1, 2, 9]] = value
    found = classification.compare(**outputs, labels=labels, tolerance=Tolerance(1, 1), budget_pp=100)
    assert found.verdict == "fail"
    assert "3 of 100 samples" in found.reason
    assert (found.max_abs, found.mean_abs) == (None, None)


@pytest.mark.parametrize(
    ("reference", "candidate", "labels"),
    [((4, 10), (4, 9), 4), ((4, 10), (3, 10), 4), ((4, 10), (4, 10), 3), ((0, 10), (0, 10), 0)],
)
def test_what_does_not_belong_together_is_not_compared(
    reference: tuple[int, int], candidate: tuple[int, int], labels: int
) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        classification.compare(np.zeros(reference), np.zeros(candidate), np.zeros(labels, np.int64), STRICT, 0.5)


def test_disagreements_are_counted_and_the_gravest_kept() -> None:
    reference = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    candidate = np.array([[0.1, 0.9], [0.45, 0.55], [0.3, 0.7]])
    labels = np.array([0, 1, 1, 1])
    assert classification.disagreements(reference, reference, labels, 5) == Differing(0, ())
    found = classification.disagreements(reference[:3], candidate, labels[:3], 5)
    assert found.count == 2
    assert [sample.index for sample in found.samples] == [0, 1], "0.8 of its score is lost, and then 0.15"
    reference_answer, candidate_answer = Answer(class_index=0, score=0.9), Answer(class_index=1, score=0.9)
    assert found.samples[0] == DifferingSample(index=0, label=0, reference=reference_answer, candidate=candidate_answer)
    limited = classification.disagreements(reference[:3], candidate, labels[:3], 1)
    assert limited.count == 2
    assert len(limited.samples) == 1
    (sample,) = classification.disagreements(reference[3:], np.array([[0.1, np.nan]]), labels[:1], 5).samples
    assert sample.candidate == Answer(class_index=1, score=None)
