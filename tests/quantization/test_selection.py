"""Which precision is chosen, which are worth a look, and why the others are not."""

from dataclasses import replace

import numpy as np
import pytest
from made_outputs import yardstick
from made_records import JUDGED

from pipeline.artifacts.parity import Comparison
from pipeline.artifacts.selection import SelectedOn, Selection
from pipeline.judging.comparing import compare
from pipeline.quantization import selection
from pipeline.tensors import Tolerance

LABELS = np.arange(4000) % 10


def judged(lost: int) -> Comparison:
    """Return the comparison of a candidate that gets `lost` of 4,000 samples wrong which the reference gets right."""
    reference = np.eye(10)[LABELS]
    candidate = reference.copy()
    candidate[:lost] = np.roll(candidate[:lost], 1, axis=1)
    return compare([yardstick(reference, LABELS)], {"out": reference}, {"out": candidate}, Tolerance(0, 1e-6))


def select(candidates: list[selection.Candidate]) -> Selection:
    on = SelectedOn(name="digits", split="validation", samples=len(LABELS))
    return selection.select(candidates, "type", on, (JUDGED,))


def candidate(name: str, cost: float, lost: int = 0, size: int = 100) -> selection.Candidate:
    return selection.Candidate(name, judged(lost), cost, cost, size, size)


def test_the_cheapest_within_the_budget_is_chosen() -> None:
    found = select([candidate("fp32", 32), candidate("fp16", 16, 2), candidate("int8", 8, 400)])
    assert found.chosen == "fp16"
    assert (found.basis, found.dataset.samples, found.outputs) == ("type", 4000, (JUDGED,))
    rejected = {row.precision: row.rejected for row in found.candidates}
    assert rejected["fp16"] == ""
    assert "fp16 costs less (16 against 32)" in rejected["fp32"]
    assert "accuracy drop at least" in rejected["int8"]


def test_what_is_not_proven_is_not_chosen() -> None:
    unproven = candidate("int8", 8, lost=17)
    assert unproven.comparison is not None
    assert unproven.comparison.verdict == "inconclusive"
    found = select([candidate("fp32", 32), unproven])
    assert found.chosen == "fp32"
    assert "samples would settle it" in found.candidates[1].rejected


def test_among_equals_the_more_accurate_then_the_smaller() -> None:
    accurate, smaller = candidate("int8", 8, lost=1), candidate("fp8", 8, lost=2, size=50)
    found = select([smaller, accurate])
    assert found.chosen == "int8"
    assert "nearer to FP32" in found.candidates[0].rejected
    assert select([replace(smaller, comparison=judged(1)), accurate]).chosen == "fp8"


def test_the_pareto_set_has_those_that_no_other_beats_in_both() -> None:
    candidates = [
        candidate("fp32", 32),
        candidate("tf32", 19),
        candidate("fp16", 16, lost=1),
        candidate("bf16", 16, lost=3),
        candidate("int8", 8, lost=5),
        candidate("fp8", 8, lost=400),
    ]
    assert select(candidates).pareto == ("tf32", "fp16", "int8")


@pytest.mark.parametrize("change", [{"failure": "no parser\nmore words"}, {"comparison": None}])
def test_what_could_not_be_built_or_judged_is_not_chosen(change: dict[str, object]) -> None:
    found = select([replace(candidate("int8", 8), **change), candidate("fp32", 32)])
    assert found.chosen == "fp32"
    assert found.candidates[0].rejected


def test_nothing_within_the_budget_chooses_nothing() -> None:
    found = select([candidate("int8", 8, lost=400)])
    assert found.chosen is None
    assert found.pareto == ()
