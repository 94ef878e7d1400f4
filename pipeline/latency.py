"""Statistics of timings: pure numpy."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.50, 0.90, 0.95, 0.99)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """What a cell's samples say. A percentile that their count cannot support is None."""

    samples: int
    mean_us: float
    p50_us: float | None
    p90_us: float | None
    p95_us: float | None
    p99_us: float | None
    items_per_s: float


def samples_needed(quantile: float, confidence: float = CONFIDENCE) -> int:
    """Return how many samples a percentile needs: so many that the largest exceeds it with `confidence`.

    The chance that n samples all lie below the quantile q is qⁿ (S. S. Wilks, Ann. Math. Statist. 12, 1941): 5 samples
    for the median, 29 for p90, 59 for p95, 299 for p99.
    """
    return math.ceil(math.log(1 - confidence) / math.log(quantile))


def percentile_us(samples_ns: NDArray[np.int64], quantile: float) -> float | None:
    """Return a percentile in µs, one of the samples themselves (nearest rank), or None where there are too few."""
    if len(samples_ns) < samples_needed(quantile):
        return None
    return float(np.quantile(samples_ns, quantile, method="inverted_cdf")) / 1e3


def summarise(samples_ns: NDArray[np.int64], batch: int) -> Summary:
    """Summarise the durations of single calls in ns, each with `batch` items.

    Raises:
        ValueError: there are no samples, or a duration is not positive.
    """
    if not len(samples_ns) or samples_ns.min() <= 0:
        raise ValueError("durations must be positive, and there must be some")
    mean_ns = float(samples_ns.mean())
    p50, p90, p95, p99 = (percentile_us(samples_ns, quantile) for quantile in QUANTILES)
    return Summary(len(samples_ns), mean_ns / 1e3, p50, p90, p95, p99, batch / (mean_ns / 1e9))


def speedup(baseline_rounds: list[NDArray[np.int64]], candidate_rounds: list[NDArray[np.int64]]) -> dict[str, float]:
    """Return how many times faster the candidate is, by medians, and the least and greatest ratio of any one round.

    The two were timed in turn in each round, so that the range shows what drift of the machine does to the ratio.
    """
    per_round = [
        float(np.median(baseline) / np.median(candidate))
        for baseline, candidate in zip(baseline_rounds, candidate_rounds, strict=True)
    ]
    ratio = float(np.median(np.concatenate(baseline_rounds)) / np.median(np.concatenate(candidate_rounds)))
    return {"ratio": ratio, "ratio_min": min(per_round), "ratio_max": max(per_round)}
