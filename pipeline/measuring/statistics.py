"""Statistics of timings: what samples, taken in rounds, can support."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.results import Interval, SpeedVerdict, Timing

Samples = NDArray[np.int64]

QUANTILES = (0.50, 0.90, 0.95, 0.99)
CONFIDENCE = 0.95
RESAMPLES = 2000

NOT_SIGNIFICANT: SpeedVerdict = "no significant difference"


def samples_needed(quantile: float, confidence: float = CONFIDENCE) -> int:
    """Return how many samples a percentile needs: so many that the largest exceeds it with `confidence`.

    The chance that n samples all lie below the quantile q is qⁿ (S. S. Wilks, Ann. Math. Statist. 12, 1941): 5 samples
    for the median, 29 for p90, 59 for p95, 299 for p99.
    """
    return math.ceil(math.log(1 - confidence) / math.log(quantile))


def percentile_us(samples_ns: Samples, quantile: float) -> float | None:
    """Return a percentile in µs, one of the samples themselves (nearest rank), or None where there are too few."""
    if len(samples_ns) < samples_needed(quantile):
        return None
    return float(np.quantile(samples_ns, quantile, method="inverted_cdf")) / 1e3


def summarise(rounds_ns: Sequence[Samples], batch: int) -> Timing:
    """Summarise the durations of single calls in ns, each with `batch` items, taken in rounds.

    Raises:
        ValueError: there are no samples, or a duration is not positive.
    """
    samples_ns = np.concatenate(rounds_ns)
    if not len(samples_ns) or samples_ns.min() <= 0:
        raise ValueError("durations must be positive, and there must be some")
    mean_ns = float(samples_ns.mean())
    medians = round_medians_us(rounds_ns)
    enough = len(samples_ns) >= samples_needed(0.50)
    p90, p95, p99 = (percentile_us(samples_ns, quantile) for quantile in QUANTILES[1:])
    return Timing(
        samples=len(samples_ns),
        mean_us=mean_ns / 1e3,
        p50_us=float(np.median(medians)) if enough else None,
        p50_ci95_us=interval(medians) if enough else None,
        p90_us=p90,
        p95_us=p95,
        p99_us=p99,
        items_per_s=batch / (mean_ns / 1e9),
        round_p50_us=tuple(medians),
        round_mean_us=tuple(float(samples_ns.mean()) / 1e3 for samples_ns in rounds_ns),
    )


def round_medians_us(rounds_ns: Sequence[Samples]) -> list[float]:
    """Return the median of each round in µs."""
    return [float(np.median(samples_ns)) / 1e3 for samples_ns in rounds_ns]


def interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % bootstrap interval of the median of `values`, one per round; None for a single round.

    Rounds are resampled, not single calls: neighbouring calls resemble each other, and an interval that took them
    for independent would be far too narrow. Percentile method (B. Efron, Ann. Statist. 7, 1979).
    """
    return bootstrap(np.median, values) if len(values) >= 2 else None


def bootstrap(statistic: Callable[..., Any], *samples: Sequence[float]) -> Interval:
    """Return the 95 % bootstrap interval of a statistic of samples that are not paired, each resampled by itself.

    `statistic` takes as many arrays, and an `axis`.
    """
    from scipy import stats  # takes half a second, which those that only measure need not wait

    found = stats.bootstrap(
        tuple(map(np.asarray, samples)),
        statistic,
        vectorized=True,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def microseconds(value: float | None) -> str:
    """Write a duration in µs for people, as 0.22, 13.2 or 48,183; "n/a" where the samples did not support one."""
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


@dataclass(frozen=True)
class Ratio:
    """How many times faster: the median of the rounds' ratios of medians, and its bootstrap interval over rounds."""

    ratio: float
    ratio_ci95: Interval | None


def speedup(baseline_us: Sequence[float], candidate_us: Sequence[float]) -> Ratio:
    """Return how many times faster the candidate is, from each round's medians of both.

    Both were timed in turn in each round, so that what slowed a round down cancels in its ratio.
    """
    ratios = [baseline / candidate for baseline, candidate in zip(baseline_us, candidate_us, strict=True)]
    return Ratio(float(np.median(ratios)), interval(ratios))


def noise_floor(first: Ratio) -> float:
    """Return the smallest difference, as a fraction, that may be called one, by a cell's ratio to its A/A repeat."""
    ends = first.ratio_ci95 or (first.ratio, first.ratio)
    return max(abs(1 - end) for end in (*ends, first.ratio))


def verdict(ratio: Ratio, floor: float) -> SpeedVerdict:
    """Return "faster" or "slower" where the whole interval is beyond the noise floor, else NOT_SIGNIFICANT."""
    low, high = ratio.ratio_ci95 or (ratio.ratio, ratio.ratio)
    if low > 1 + floor:
        return "faster"
    if high < 1 / (1 + floor):
        return "slower"
    return NOT_SIGNIFICANT
