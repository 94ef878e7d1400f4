"""A bootstrap over samples that were measured twice: for every measure that is made of sums over samples.

Each sample has a row of numbers; the measure is a function of the rows' mean. So a resample is a product of counts and
rows, and 2,000 of them over 10,000 samples take a fraction of a second in bounded memory, per-class intersections and
unions included, where `scipy.stats.bootstrap` would need 10,000² steps for the acceleration alone.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pipeline.paired import CONFIDENCE

RESAMPLES = 2000
SEED = 0
"""Fixed: the same outputs get the same verdict."""

LEAST = 10
"""Samples below which an interval by resampling means nothing."""

DRAWN_AT_ONCE = 2_000_000

Numbers = NDArray[np.float64]
Measure = Callable[[Numbers], Numbers]
"""Rows' means [..., numbers] → the measure [...]."""


def interval(rows: Numbers, measure: Measure) -> tuple[float, float] | None:
    """Return the bias-corrected and accelerated interval of a measure of the rows' mean, [samples, numbers].

    None below `LEAST` samples, and where the measure is not a number. Where no resample differs, the interval is empty:
    nothing is known of samples other than these.
    """
    n = len(rows)
    estimate = float(measure(rows.mean(axis=0)))
    if n < LEAST or not math.isfinite(estimate):
        return None
    found = _resampled(rows, measure)
    if float(np.ptp(found)) == 0:
        return estimate, estimate
    below = float((found < estimate).mean() + (found == estimate).mean() / 2)
    least = 0.5 / RESAMPLES  # of all resamples on one side, as many as can be told
    bias = float(ndtri(min(max(below, least), 1 - least)))
    without = measure((rows.sum(axis=0) - rows) / (n - 1))  # each sample left out once
    off = without.mean() - without
    spread = float((off**2).sum())
    acceleration = float((off**3).sum()) / (6 * spread**1.5) if spread else 0.0
    tail = float(ndtri((1 + CONFIDENCE) / 2))
    ends = []
    for z in (bias - tail, bias + tail):
        ends.append(float(ndtr(bias + z / (1 - acceleration * z))))
    low, high = np.quantile(found, ends)
    return float(low), float(high)


def _resampled(rows: Numbers, measure: Measure) -> Numbers:
    """Return the measure of every resample."""
    n, random = len(rows), np.random.default_rng(SEED)
    at_once = max(1, min(RESAMPLES, DRAWN_AT_ONCE // n))
    found = []
    for start in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - start)
        drawn = random.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        found.append(measure(counts @ rows / n))
    return np.concatenate(found)


def samples_to_settle(loss: float, ends: tuple[float, float], n: int, budget: float) -> int | None:
    """Return how many samples would settle the verdict if the loss and its spread stayed as found.

    The interval narrows with the root of their number. None where even 1,000 times as many would not.
    """
    half = ends[1] - loss if loss < budget else loss - ends[0]
    distance = abs(budget - loss)
    factor = (half / distance) ** 2 if distance else math.inf
    return math.ceil(n * factor) if 1 < factor <= 1000 else None
