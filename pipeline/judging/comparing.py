"""Comparing two sets of outputs on the same samples: numbers, an interval of the loss, and a verdict."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.parity import NO_LABELS, Comparison, Interval, OutputComparison
from pipeline.judging.yardstick import Yardstick, slices, some
from pipeline.paired import BOOTSTRAP, TANGO, bootstrap, proportions
from pipeline.tasks import Numbers
from pipeline.tensors import Feed, Outputs, Tolerance

Verdict = Literal["pass", "fail", "inconclusive"]
Rights = NDArray[np.bool_]


def worst(verdicts: Iterable[str]) -> Verdict:
    """Return the worst verdict; what was skipped does not count."""
    known = set(verdicts)
    return "fail" if "fail" in known else "inconclusive" if "inconclusive" in known else "pass"


def compare(
    yardsticks: Sequence[Yardstick], reference: Outputs, candidate: Outputs, tolerance: Tolerance
) -> Comparison:
    """Compare outputs [samples, …] by name, each by its yardstick, and decide.

    Outputs that are not numbers fail. Outputs within `tolerance` on every sample pass. Otherwise the metric decides, as
    a non-inferiority test at one-sided 2.5 %: `pass` where the whole 95 % interval of the loss is within the budget,
    `fail` where all of it is beyond, else `inconclusive`, as always on random inputs.
    """
    rows = tuple(_compared(one, reference, candidate, tolerance) for one in yardsticks)
    verdict = worst(row.verdict for row in rows)
    told = [row for row in rows if row.verdict == verdict]
    reasons = list(dict.fromkeys(row.reason for row in told))
    if len(reasons) > 1 or len(told) < len(rows):  # else it is the same of all
        reasons = [f"{row.output}: {row.reason}" for row in told]
    return Comparison(outputs=rows, verdict=verdict, reason="; ".join(reasons))


class Loss(NamedTuple):
    """How much was lost in the task's unit, with its 95 % interval; None where there is none, or no number.

    `p` is McNemar's, `settle` how many samples would settle the verdict; None where that cannot be told.
    """

    ends: Interval | None
    p: float | None
    settle: int | None
    interval: str


class _Differences:
    """What the numbers of two sets of outputs differ in, over all samples added."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance, self._numbers, self._sum = tolerance, 0, 0.0
        self.infinite, self.within, self.max_abs = 0, True, 0.0

    def add(self, reference: Feed, candidate: Feed) -> None:
        unknown = np.zeros(len(next(iter(reference.values()))), np.bool_)
        for name in reference:
            left, right = (rows[name].astype(np.float64) for rows in (reference, candidate))
            known = (np.isfinite(left) & np.isfinite(right)).reshape(len(left), -1).all(axis=1)
            unknown |= ~known
            self.within = self.within and self._tolerance.holds(right, left)
            off = np.abs(left[known] - right[known])
            self.max_abs = max(self.max_abs, float(off.max(initial=0)))
            self._sum, self._numbers = self._sum + float(off.sum()), self._numbers + left.size
        self.infinite += int(unknown.sum())

    @property
    def mean_abs(self) -> float:
        return self._sum / max(1, self._numbers)


def _compared(yardstick: Yardstick, reference: Outputs, candidate: Outputs, tolerance: Tolerance) -> OutputComparison:
    """Compare one output; see `compare`.

    Raises:
        ValueError: the two are not of the same samples and shapes.
    """
    task, known = yardstick.task, yardstick.record
    _check(yardstick, reference, candidate)
    found, same = _Differences(tolerance), []
    before, after = [], []
    one, other = yardstick.taken(reference), yardstick.taken(candidate)
    with np.errstate(invalid="ignore", over="ignore"):  # samples with NaN or Inf fail
        for which in slices(one):
            left, right = some(one, which), some(other, which)
            found.add(yardstick.judged(left), yardstick.judged(right))  # type: ignore[arg-type]  # of arrays, too
            before.append(yardstick.parts(left, which))
            after.append(yardstick.parts(right, which))
            same.append(task.same(yardstick.picked(left), yardstick.picked(right)))
    parts = np.concatenate(before), np.concatenate(after)
    values = [float(task.aggregate(each.mean(axis=0))) for each in parts]
    loss = _lost(yardstick, *parts)
    finite, n = not found.infinite, len(parts[0])
    if not finite:
        verdict: Verdict = "fail"
        reason = f"NaN or Inf in the outputs of {found.infinite} of {n} samples"
    elif found.within:
        verdict, reason = "pass", f"outputs within {tolerance} on every sample"
    else:
        verdict, reason = _decided(yardstick, loss, n)
    alike = [each for each in same if each is not None]
    return OutputComparison(
        **known.model_dump(include={"output", "task", "labels", "metric", "unit", "direction", "budget"}),
        samples=n,
        max_abs=found.max_abs if finite else None,
        mean_abs=found.mean_abs if finite else None,
        agreement=_number(float(np.concatenate(alike).mean())) if alike else None,
        reference=_number(values[0]),
        candidate=_number(values[1]),
        loss=_number(float(_worse(yardstick, *map(np.asarray, values)))),
        loss_ci95=loss.ends,
        p=loss.p,
        interval=loss.interval,
        verdict=verdict,
        reason=reason,
    )


def _check(yardstick: Yardstick, reference: Outputs, candidate: Outputs) -> None:
    one, other = yardstick.taken(reference), yardstick.taken(candidate)
    shapes = [{name: rows.shape for name, rows in each.items()} for each in (one, other)]
    counts = {len(rows) for rows in (*one.values(), *yardstick.targets.values())}
    if shapes[0] != shapes[1] or len(counts) != 1 or counts == {0}:
        raise ValueError(f"cannot compare {shapes[0]} with {shapes[1]} on {sorted(counts)} samples")


def _worse(yardstick: Yardstick, before: Numbers, after: Numbers) -> Numbers:
    """Return how much worse `after` is than `before`, in the task's unit."""
    task = yardstick.task
    with np.errstate(invalid="ignore"):  # Inf − Inf, of outputs that fail
        return (before - after if task.HIGHER_IS_BETTER else after - before) * task.scale


def _lost(yardstick: Yardstick, before: Numbers, after: Numbers) -> Loss:
    """Return the interval of the loss: closed where each sample is right or wrong, else by resampling."""
    if yardstick.task.proportion(before, after):
        return _of_proportions(yardstick, before[:, 0] > 0, after[:, 0] > 0)
    width = before.shape[1]

    def measure(means: Numbers) -> Numbers:
        parts = means[..., :width], means[..., width:]
        return _worse(yardstick, *map(yardstick.task.aggregate, parts))

    rows = np.concatenate([before, after], axis=1)
    ends = bootstrap.interval(rows, measure)
    if ends is None:
        return Loss(None, None, None, BOOTSTRAP)
    estimate = float(measure(rows.mean(axis=0)))
    settle = bootstrap.samples_to_settle(estimate, ends, len(rows), yardstick.budget)
    return Loss(ends, None, settle, BOOTSTRAP)


def _of_proportions(yardstick: Yardstick, right: Rights, still: Rights) -> Loss:
    lost, gained, n = int((right & ~still).sum()), int((~right & still).sum()), len(right)
    scale, budget = yardstick.task.scale, yardstick.budget
    low, high = (scale * bound for bound in proportions.drop_interval(lost, gained, n))
    settled = low > budget or high <= budget
    settle = None if settled else proportions.samples_to_settle(lost, gained, n, budget / scale)
    return Loss((low, high), proportions.mcnemar_p(lost, gained), settle, TANGO)


def _decided(yardstick: Yardstick, loss: Loss, n: int) -> tuple[Verdict, str]:
    """Return the verdict on a loss, and its reason."""
    task, budget = yardstick.task, yardstick.budget
    lost = f"{task.metric} {'drop' if task.HIGHER_IS_BETTER else 'rise'}"
    lost = lost if yardstick.labels else f"{NO_LABELS}: {lost}"
    if yardstick.random:
        return "inconclusive", "outputs beyond the tolerance, and on random inputs nothing says what that loses"
    if loss.ends is None:
        return "inconclusive", f"{lost}: {n} samples are too few for an interval, or a score is no number"
    low, high = loss.ends
    against = f"{task.unit} (95 %), budget {budget:.4g}"
    if high <= budget:
        return "pass", f"{lost} at most {_short(high)} {against}"
    if low > budget:
        return "fail", f"{lost} at least {_short(low)} {against}"
    more = f"about {loss.settle:,} samples would settle it" if loss.settle else "it is too near the budget to settle"
    return "inconclusive", f"{lost} {_short(low)} to {_short(high)} {against}: {more}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 100 or 0 < abs(value) < 0.01 else f"{value:.3f}"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
