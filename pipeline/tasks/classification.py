"""Comparing a runner's outputs with a reference's on the same samples: numbers, statistics and a verdict."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.disagreements import Answer, DifferingSample
from pipeline.artifacts.parity import Comparison
from pipeline.tasks.paired_proportions import drop_interval, mcnemar_p, samples_to_settle
from pipeline.tensors import Tolerance


@dataclass(frozen=True)
class Differing:
    """How many samples get another answer, and those that changed most."""

    count: int
    samples: tuple[DifferingSample, ...]


def compare(
    reference: NDArray[np.floating],
    candidate: NDArray[np.floating],
    labels: NDArray[np.integer],
    tolerance: Tolerance,
    budget_pp: float,
) -> Comparison:
    """Compare two arrays of class scores [samples, classes], and decide.

    Outputs that are not numbers fail. Outputs within `tolerance` on every sample pass. Otherwise the accuracy decides,
    as a non-inferiority test at one-sided 2.5 %: `pass` where the whole 95 % interval of the drop is within
    `budget_pp`, `fail` where all of it is beyond, else `inconclusive`.
    """
    if reference.shape != candidate.shape or len(reference) != len(labels) or not len(labels):
        raise ValueError(f"cannot compare {reference.shape} with {candidate.shape} on {len(labels)} labels")
    infinite = ~(np.isfinite(candidate) & np.isfinite(reference)).all(axis=1)  # [samples]
    finite = not infinite.any()
    with np.errstate(invalid="ignore"):  # Inf − Inf; such samples fail below
        difference = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    top_reference, top_candidate = reference.argmax(axis=1), candidate.argmax(axis=1)
    right_reference, right_candidate = top_reference == labels, top_candidate == labels
    lost = int((right_reference & ~right_candidate).sum())
    gained = int((~right_reference & right_candidate).sum())
    n = len(labels)
    low, high = (100 * bound for bound in drop_interval(lost, gained, n))
    drop = 100 * (lost - gained) / n
    if not finite:
        verdict: Literal["pass", "fail", "inconclusive"] = "fail"
        reason = f"NaN or Inf in the outputs of {int(infinite.sum())} of {n} samples"
    elif np.allclose(candidate, reference, rtol=tolerance.rtol, atol=tolerance.atol):
        verdict, reason = "pass", f"outputs within {tolerance} on every sample"
    elif high <= budget_pp:
        verdict, reason = "pass", f"accuracy drop at most {high:.3f} points (95 %), budget {budget_pp:g}"
    elif low > budget_pp:
        verdict, reason = "fail", f"accuracy drop at least {low:.3f} points (95 %), budget {budget_pp:g}"
    else:
        verdict = "inconclusive"
        needed = samples_to_settle(lost, gained, n, budget_pp)
        more = f"about {needed:,} samples would settle it" if needed else "the drop is too near the budget to settle"
        reason = f"accuracy drop {low:.3f} to {high:.3f} points (95 %), budget {budget_pp:g}: {more}"
    return Comparison(
        samples=n,
        max_abs=float(difference.max()) if finite else None,
        mean_abs=float(difference.mean()) if finite else None,
        top1_agreement=float((top_reference == top_candidate).mean()),
        accuracy_reference=float(right_reference.mean()),
        accuracy_candidate=float(right_candidate.mean()),
        accuracy_drop_pp=drop,
        accuracy_drop_ci95_pp=(low, high),
        mcnemar_p=mcnemar_p(lost, gained),
        verdict=verdict,
        reason=reason,
    )


def disagreements(
    reference: NDArray[np.floating], candidate: NDArray[np.floating], labels: NDArray[np.integer], limit: int
) -> Differing:
    """Return how many samples get another answer from the candidate, and the `limit` that changed most.

    Both are class scores [samples, classes]. Those changed most whose old answer lost most of its score. A score
    that is no number is None.
    """
    top_reference, top_candidate = reference.argmax(axis=1), candidate.argmax(axis=1)
    differing = np.flatnonzero(top_reference != top_candidate)
    before = reference[differing, top_reference[differing]].astype(np.float64)
    lost = before - candidate[differing, top_reference[differing]].astype(np.float64)
    gravest = differing[np.argsort(-np.nan_to_num(lost, nan=np.inf), kind="stable")[:limit]]

    def answer(scores: NDArray[np.floating], best: int) -> Answer:
        score = float(scores[best])
        return Answer(class_index=int(best), score=score if math.isfinite(score) else None)

    return Differing(
        count=len(differing),
        samples=tuple(
            DifferingSample(
                index=int(index),
                label=int(labels[index]),
                reference=answer(reference[index], top_reference[index]),
                candidate=answer(candidate[index], top_candidate[index]),
            )
            for index in gravest
        ),
    )
