"""What was measured of training, as a table in Markdown, and whether what we claim of it holds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

MACS_FORWARD = {"conv": 26 * 26 * 3 * 3 * 32, "dense": 13 * 13 * 32 * 10}
"""Multiply-accumulates of one image, layer by layer."""

MACS = 2 * MACS_FORWARD["conv"] + 3 * MACS_FORWARD["dense"]
"""Of a training step, for one image: forward, the weights' gradients, and the gradient of what goes into the last
layer. What goes into the first one needs none."""

LOSS_ALLOWED, TIME_ALLOWED, TIME_AIMED = 0.0005, 1 / 5, 1 / 10
"""What is claimed: a mean test accuracy at most 0.05 points below the article's, in a fifth of its time; in a tenth is
what is aimed at."""


class Run(NamedTuple):
    """One training: a seed, the seconds of `fit` and of its whole process, the test accuracy, and samples seen."""

    seed: int
    fit_s: float
    process_s: float
    accuracy: float
    samples: int


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval, by Student's t; the interval of one value is the value."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def markdown(runs: Mapping[str, Sequence[Run]], limit: float | None) -> str:
    """Return the table; `limit` is the machine's measured limit in multiply-accumulates a second."""
    heads = ("trained by", "seeds", "fit, s", "process, s", "test accuracy, mean", "images/s", "of the limit")
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, mine in runs.items():
        seconds = [run.fit_s for run in mine]
        middle = statistics.median(seconds)
        mean, low, high = mean_interval([run.accuracy for run in mine])
        rate = statistics.median(run.samples / run.fit_s for run in mine)
        share = "n/a" if limit is None else f"{100 * rate * MACS / limit:.1f} %"
        lines.append(
            f"| {name} | {len(mine)} | {middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) | "
            f"{statistics.median(run.process_s for run in mine):.1f} | {mean:.4f} ({low:.4f} to {high:.4f}) | "
            f"{rate:,.0f} | {share} |"
        )
    return "\n".join(lines)


def claims(article: Sequence[Run], ours: Sequence[Run]) -> list[str]:
    """Return each claim with its numbers, and whether it holds."""
    means = [float(np.mean([run.accuracy for run in runs])) for runs in (article, ours)]
    times = [statistics.median(run.fit_s for run in runs) for runs in (article, ours)]
    lost, ratio = means[0] - means[1], times[1] / times[0]
    reached = means[1] >= means[0]
    told = f"{times[1]:.2f} s" if reached else "not reached"
    return [
        f"mean test accuracy {100 * abs(lost):.3f} points {'below' if lost > 0 else 'above'} the article's; at most "
        f"{100 * LOSS_ALLOWED:.2f} below it: {_holds(lost <= LOSS_ALLOWED)}",
        f"fit in {ratio:.3f} of the article's time, at most {TIME_ALLOWED:.2f}: {_holds(ratio <= TIME_ALLOWED)}; "
        f"{TIME_AIMED:.2f} is aimed at: {_holds(ratio <= TIME_AIMED)}",
        f"time to the article's mean accuracy of {means[0]:.4f}: the article's script {times[0]:.2f} s, ours {told}",
    ]


def _holds(true: bool) -> str:
    return "holds" if true else "does not hold"
