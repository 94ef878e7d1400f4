"""Two proportions of the same samples: their difference with its interval, and whether it is more than chance.

`lost` counts the samples that only the reference has right, `gained` those that only the candidate has, of `n` in all.
"""

import math

from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from pipeline.paired import CONFIDENCE


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


def samples_to_settle(lost: int, gained: int, n: int, budget: float) -> int | None:
    """Return how many samples would settle the verdict if the rates of lost and gained samples stayed as found.

    `budget` is a fraction. None where even 1,000 times as many would not.
    """

    def settled(factor: float) -> bool:
        low, high = drop_interval(lost * factor, gained * factor, n * factor)
        return high <= budget or low > budget

    low, high = 1.0, 1000.0
    if not settled(high):
        return None
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if settled(middle) else (middle, high)
    return math.ceil(n * high)
