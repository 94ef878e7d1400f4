"""Comparing a candidate's outputs with a reference's on the same samples: numbers, statistics and a verdict."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from pipeline.tensors import Tolerance

Verdict = Literal["pass", "fail", "inconclusive", "skipped"]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """What differs between two sets of outputs on the same samples.

    Differences are absolute, over all elements. Accuracies are fractions of the samples; the drop is in percentage
    points, positive where the candidate is worse.
    """

    samples: int
    max_abs: float | None
    mean_abs: float | None
    top1_agreement: float
    accuracy_reference: float
    accuracy_candidate: float
    accuracy_drop_pp: float
    accuracy_drop_ci95_pp: tuple[float, float]
    mcnemar_p: float
    verdict: Verdict
    reason: str


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
        verdict: Verdict = "fail"
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
) -> dict[str, Any]:
    """Return how many samples get another answer from the candidate, and the `limit` gravest of them as plain data.

    Both are class scores [samples, classes]. The gravest are those whose old answer lost most of its score. A score
    that is no number is None.
    """
    top_reference, top_candidate = reference.argmax(axis=1), candidate.argmax(axis=1)
    differing = np.flatnonzero(top_reference != top_candidate)
    before = reference[differing, top_reference[differing]].astype(np.float64)
    lost = before - candidate[differing, top_reference[differing]].astype(np.float64)
    gravest = differing[np.argsort(-np.nan_to_num(lost, nan=np.inf), kind="stable")[:limit]]

    def answer(scores: NDArray[np.floating], best: int) -> dict[str, Any]:
        score = float(scores[best])
        return {"class": int(best), "score": score if math.isfinite(score) else None}

    return {
        "count": len(differing),
        "samples": [
            {
                "index": int(index),
                "label": int(labels[index]),
                "reference": answer(reference[index], top_reference[index]),
                "candidate": answer(candidate[index], top_candidate[index]),
            }
            for index in gravest
        ],
    }


def mcnemar_p(lost: int, gained: int) -> float:
    """Return the p of McNemar's exact test: the two-sided binomial test of the discordant pairs (McNemar 1947)."""
    return float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0


def drop_interval(lost: float, gained: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the score interval of a difference of two paired proportions, (lost − gained) / n, as fractions.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998) 891-908. It holds its level for small counts, and is not
    empty where no pair is discordant: then ± z² / (n + z²).
    """
    z = float(norm.ppf((1 + confidence) / 2))

    def score(delta: float) -> float:
        """Tango's statistic for the null hypothesis that the difference is `delta`; it decreases in delta."""
        b = -(lost + gained) + (2 * n - lost + gained) * delta
        c = -gained * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        return (lost - gained - n * delta) / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, -delta)

    estimate = (lost - gained) / n
    edge = 1e-12  # the variance vanishes at ±1
    low = -1.0 if estimate <= -1 + edge else brentq(lambda d: score(d) - z, -1 + edge, estimate - edge)
    high = 1.0 if estimate >= 1 - edge else brentq(lambda d: score(d) + z, estimate + edge, 1 - edge)
    return float(low), float(high)


def samples_to_settle(lost: int, gained: int, n: int, budget_pp: float) -> int | None:
    """Return how many samples would settle the verdict if the rates of lost and gained predictions stayed as found.

    None where even 1,000 times as many would not.
    """

    def settled(factor: float) -> bool:
        low, high = drop_interval(lost * factor, gained * factor, n * factor)
        return 100 * high <= budget_pp or 100 * low > budget_pp

    low, high = 1.0, 1000.0
    if not settled(high):
        return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if settled(middle) else (middle, high)
    return math.ceil(n * high)
