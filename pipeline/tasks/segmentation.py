"""A class at every position, as of each pixel: judged by the mean over classes of intersection over union."""

from collections.abc import Sequence

import numpy as np

from pipeline.tasks import READ_AT_ONCE, Answer, Fit, Numbers, Seen, Task, called
from pipeline.tasks.classification import rarest
from pipeline.tensors import Array, Rows

SCORES, NUMBER = "scores", "class numbers"
SHOWN = 3


class Segmentation(Task):
    """A class at each position of a sample, which may have any number of axes.

    Forms: `scores` has one for each class in the last axis, `one probability` and `one logit` that of the second of two
    classes, `class numbers` the classes themselves. The metric is the mean, over the classes that are there or were
    found, of intersection over union, both summed over all samples (as in PASCAL VOC). A sample's own score is the same
    of that sample alone. Positions whose target is no class, as 255 for "do not care", do not count.
    """

    NAME = "segmentation"

    @classmethod
    def guess(cls, seen: Seen) -> Fit | None:
        """See Task."""
        size, target = seen.shape, seen.target_shape
        if target is None:
            return _fit(seen) if (len(size) > 1 and seen.distribution) or (size and seen.whole_outputs) else None
        if not size or not (seen.numbers_of_classes or seen.zeros_and_ones):
            return None
        if seen.whole_outputs:
            return _fit(seen) if target == size else None
        classes = len(size) > 1 and target == size[:-1] and seen.numbers_of_classes and seen.outputs.shape[-1] > 1
        return _fit(seen) if classes or (len(size) > 1 and target == size and seen.zeros_and_ones) else None

    @classmethod
    def asked(cls, seen: Seen) -> Fit:
        """See Task."""
        size, target = seen.shape, seen.target_shape
        if not size or target not in (None, size, size[:-1]) or (seen.targets is not None and not _whole(seen)):
            raise seen.refuse(cls.NAME)
        return _fit(seen)

    @property
    def metric(self) -> str:
        """See Task."""
        return "mean IoU"

    @property
    def unit(self) -> str:
        """See Task."""
        return "points"

    def budget(self, original: float) -> tuple[float, str]:
        """See Task."""
        return 0.5, "half a percentage point"

    def answers(self, outputs: Array) -> Array:
        """Return the class at each position, [samples, positions]."""
        if self.form == SCORES:
            return np.asarray(outputs.argmax(axis=-1).reshape(len(outputs), -1))
        flat = outputs.reshape(len(outputs), -1)
        return flat if self.form == NUMBER else (flat > (0.0 if self.form == "one logit" else 0.5)).astype(np.int64)

    def labels(self, targets: Array, positions: int) -> Array:
        """Return targets as `answers` has them: those with one 1 for the class become its number."""
        flat = targets.reshape(len(targets), -1)
        return flat if flat.shape[1] == positions else targets.argmax(axis=-1).reshape(len(targets), -1)

    def expected(self, outputs: Array) -> Array:
        """See Task."""
        return self.answers(outputs)

    def parts(self, outputs: Array, targets: Array) -> Numbers:
        """Return each sample's intersections, then its unions, by class: [samples, 2 · classes]."""
        found = self.answers(outputs)
        wanted = self.labels(targets, found.shape[1])
        count = len(found)
        known = (wanted >= 0) & (wanted < self.classes)
        first = np.arange(count)[:, None] * self.classes

        def counted(labels: Array, which: Array) -> Array:
            places = (first + labels)[which].astype(np.int64)
            return np.bincount(places, minlength=count * self.classes).reshape(count, self.classes)

        both = counted(wanted, known & (found == wanted))
        either = counted(wanted, known) + counted(found, known & (found >= 0) & (found < self.classes)) - both
        return np.concatenate([both, either], axis=1).astype(np.float64)

    def aggregate(self, means: Numbers) -> Numbers:
        """See Task."""
        intersections, unions = means[..., : self.classes], means[..., self.classes :]
        there = unions > 0
        shares = np.divide(intersections, unions, out=np.zeros_like(unions), where=there)
        counted = there.sum(axis=-1)
        return np.asarray(shares.sum(axis=-1) / np.maximum(counted, 1))

    def scores(self, outputs: Array, targets: Array) -> Numbers:
        """Return each sample's own mean IoU."""
        return self.aggregate(self.parts(outputs, targets))

    def same(self, reference: Array, candidate: Array) -> Numbers:
        """Return the share of each sample's positions with the same class."""
        return np.asarray((self.answers(reference) == self.answers(candidate)).mean(axis=1))

    def strata(self, targets: Rows) -> Array | None:
        """Return of each sample the rarest of the classes in it."""
        present = np.zeros((len(targets), self.classes), np.bool_)
        channels = self.form == SCORES and targets.shape[-1] == self.classes
        for start in range(0, len(targets), READ_AT_ONCE):
            rows = targets[start : start + READ_AT_ONCE]
            labels = (rows.argmax(axis=-1) if channels else rows).reshape(len(rows), -1)
            for one in range(self.classes):
                present[start : start + len(rows), one] = (labels == one).any(axis=1)
        return rarest(present)

    def reads(self, output: Array, names: Sequence[str], target: Array | None = None) -> Answer:
        """Return which classes have the largest shares, and the mean IoU with the target."""
        score = None if target is None else float(self.scores(output[None], np.asarray(target)[None])[0])
        return Answer(_shares(self.answers(output[None])[0], names), score)

    def target_reads(self, target: Array, names: Sequence[str]) -> str:
        """See Task."""
        channels = self.form == SCORES and target.shape[-1] == self.classes
        return _shares(target.argmax(axis=-1) if channels else target, names)


def _fit(seen: Seen) -> Fit:
    if seen.whole_outputs:
        classes = 1 + max(seen.largest or 0, int(seen.outputs.max(initial=0)))
        return Fit(NUMBER, f"a whole number at each position: {classes} classes", classes)
    size, target = seen.shape, seen.target_shape
    last = seen.outputs.shape[-1]
    if last > 1 and (target == size[:-1] or (seen.one_of_them if seen.targets is not None else seen.distribution)):
        return Fit(SCORES, f"a score for each of {last} classes at each position", last)
    kind = "probability" if seen.fractions else "logit"
    return Fit(f"one {kind}", f"a {kind} at each position, and targets are 0 and 1", 2)


def _whole(seen: Seen) -> bool:
    return seen.numbers_of_classes or seen.zeros_and_ones


def _shares(labels: Array, names: Sequence[str]) -> str:
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    shown = ", ".join(f"{called(int(found[i]), names)}: {counts[i] / labels.size:.0%}" for i in order)
    return shown if len(found) <= SHOWN else f"{shown}, …"


TASK = Segmentation
