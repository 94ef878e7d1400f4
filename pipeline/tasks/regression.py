"""Numbers: judged by how far they are from the target's, on average."""

from collections.abc import Sequence

import numpy as np

from pipeline.tasks import READ_AT_ONCE, Answer, Fit, Numbers, Seen, Task, numbers, similarity
from pipeline.tensors import Array, Rows

OF_THE_ERROR = 0.02
"""How much the mean absolute error may grow by default, as a share of the original's."""

OF_THE_SPREAD = 1.0
"""Without labels: how far outputs may be from the original's by default, in % of their standard deviation."""

STRATA = 5
"""Groups of equally many samples, by the size of the target, over which calibration draws evenly."""


class Regression(Task):
    """One number or several a sample; a sample's score is its mean absolute error, in the target's unit."""

    NAME = "regression"
    HIGHER_IS_BETTER = False

    @classmethod
    def guess(cls, seen: Seen) -> Fit | None:
        """See Task."""
        size, target = seen.shape, seen.target_shape
        if seen.whole_outputs:
            return None
        if target is None:
            return cls.asked(seen) if _unlabelled(seen) else None
        return cls.asked(seen) if target == size and not seen.zeros_and_ones else None

    @classmethod
    def asked(cls, seen: Seen) -> Fit:
        """See Task."""
        if seen.targets is None:
            return Fit("", "no labels; numbers that are no probabilities")
        if seen.target_shape != seen.shape:
            raise seen.refuse(cls.NAME)
        kind = "whole numbers" if seen.numbers_of_classes else "numbers"
        return Fit("", f"targets are {kind} of the output's shape")

    @property
    def metric(self) -> str:
        """See Task."""
        return "mean difference" if self.agreement else "mean absolute error"

    @property
    def unit(self) -> str:
        """See Task."""
        return "% of the spread" if self.agreement else "target's unit"

    @property
    def scale(self) -> float:
        """See Task."""
        return 100.0 / self.spread if self.agreement else 1.0

    def budget(self, original: float) -> tuple[float, str]:
        """See Task."""
        if self.agreement:
            return OF_THE_SPREAD, f"{OF_THE_SPREAD:g} % of the standard deviation of the original's outputs"
        return OF_THE_ERROR * original, f"{OF_THE_ERROR:.0%} of the original's mean absolute error"

    def scores(self, outputs: Array, targets: Array) -> Numbers:
        """Return the mean absolute error of each sample."""
        count = len(outputs)
        off = outputs.reshape(count, -1).astype(np.float64) - targets.reshape(count, -1).astype(np.float64)
        return np.asarray(np.abs(off).mean(axis=1))

    def strata(self, targets: Rows) -> Array | None:
        """Return which fifth of the targets' range, by number of samples, each sample is in."""
        starts = range(0, len(targets), READ_AT_ONCE)
        parts = [targets[start : start + READ_AT_ONCE] for start in starts]
        means = np.concatenate([part.reshape(len(part), -1).mean(axis=1, dtype=np.float64) for part in parts])
        return np.searchsorted(np.quantile(means, np.arange(1, STRATA) / STRATA), means)

    def reads(self, output: Array, names: Sequence[str], target: Array | None = None) -> Answer:
        """Return the numbers, and their mean absolute error."""
        score = None if target is None else float(self.scores(output[None], np.asarray(target)[None])[0])
        return Answer(numbers(output), score if score is None or np.isfinite(score) else None)


def _unlabelled(seen: Seen) -> bool:
    """Tell whether outputs without labels are numbers, and nothing that another task reads."""
    size = seen.shape
    if len(size) > 1:
        return not seen.distribution
    return not seen.fractions and not similarity.embedding(seen)


TASK = Regression
