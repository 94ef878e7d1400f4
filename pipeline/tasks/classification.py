"""Which class, or which of several labels, a sample has: judged by whether the whole answer is right."""

from collections.abc import Sequence

import numpy as np

from pipeline.tasks import READ_AT_ONCE, Answer, Changed, Fit, Numbers, Seen, Task, called
from pipeline.tensors import Array, Rows

ONE_OF_MANY = ("probabilities", "logits")
SEVERAL = ("several probabilities", "several logits")
ONE_NUMBER = ("one probability", "one logit")
NUMBER = "class numbers"


class Classification(Task):
    """One class of several, several labels, or yes and no.

    Forms: `probabilities` and `logits` have a score for each class, of which the best is the answer; `several …` one
    for each label, each of which is there or not; `one …` the score of yes; `class numbers` the answer itself. A sample
    of several labels is right where all of them are.
    """

    NAME = "classification"
    PROPORTION = True

    @classmethod
    def guess(cls, seen: Seen) -> Fit | None:
        """See Task."""
        size, target = seen.shape, seen.target_shape
        if len(size) > 1 or target not in (None, (), size) or (size and seen.whole_outputs):
            return None
        if target is None:
            return _unlabelled(seen) if seen.whole_outputs or seen.fractions else None
        if size and target == size and not seen.zeros_and_ones:
            return None
        if not size and not (seen.zeros_and_ones or (seen.whole_outputs and seen.numbers_of_classes)):
            return None
        return _labelled(seen) if seen.numbers_of_classes or seen.zeros_and_ones else None

    @classmethod
    def asked(cls, seen: Seen) -> Fit:
        """See Task."""
        size, target = seen.shape, seen.target_shape
        if len(size) > 1 or target not in (None, (), size):
            raise seen.refuse(cls.NAME)
        if seen.targets is not None and not (seen.numbers_of_classes or seen.zeros_and_ones):
            raise seen.refuse(cls.NAME)
        found = _labelled(seen) if seen.targets is not None else _unlabelled(seen)
        return found or Fit("logits" if size else "one logit", "asked for; scores beyond 0 and 1", *size)

    @property
    def metric(self) -> str:
        """See Task."""
        return "same answers" if self.agreement else "accuracy"

    @property
    def unit(self) -> str:
        """See Task."""
        return "points"

    def budget(self, original: float) -> tuple[float, str]:
        """See Task."""
        return 0.5, "half a percentage point"

    def answers(self, outputs: Array) -> Array:
        """Return the answer to each sample: the number of its class [samples], or whether each label is there."""
        flat = outputs.reshape(len(outputs), -1)
        if self.form in ONE_OF_MANY:
            return np.asarray(flat.argmax(axis=1))
        if self.form in SEVERAL:
            return flat > _threshold(self.form)
        return flat[:, 0] > _threshold(self.form) if self.form in ONE_NUMBER else flat[:, 0]

    def labels(self, targets: Array) -> Array:
        """Return targets as `answers` has them: those with one 1 for the class become its number."""
        flat = targets.reshape(len(targets), -1)
        if self.form in ONE_OF_MANY and flat.shape[1] > 1:
            return np.asarray(flat.argmax(axis=1))
        return flat if self.form in SEVERAL else flat[:, 0]

    def expected(self, outputs: Array) -> Array:
        """See Task."""
        return self.answers(outputs)

    def scores(self, outputs: Array, targets: Array) -> Numbers:
        """Return 1 for each sample that is right, else 0."""
        return _alike(self.answers(outputs), self.labels(targets))

    def same(self, reference: Array, candidate: Array) -> Numbers:
        """See Task."""
        return _alike(self.answers(reference), self.answers(candidate))

    def changed(self, reference: Array, candidate: Array, targets: Array, budget: float) -> Changed:
        """Return which samples get another answer, and how much of its score the old answer lost."""
        differs = self.same(reference, candidate) < 1
        before, after = self._sureness(reference, reference), self._sureness(candidate, reference)
        return Changed(differs, before - after)

    @property
    def changed_means(self) -> str:
        """See Task."""
        return "another answer"

    def strata(self, targets: Rows) -> Array | None:
        """Return the class of each sample; of several labels, the rarest that it has."""
        starts = range(0, len(targets), READ_AT_ONCE)
        labels = np.concatenate([self.labels(targets[start : start + READ_AT_ONCE]) for start in starts])
        return rarest(labels > 0) if labels.ndim > 1 else labels

    def reads(self, output: Array, names: Sequence[str], target: Array | None = None) -> Answer:
        """Return the class or the labels, and the probability of the answer (of the least sure label)."""
        rows = output[None]
        score = float(self.sureness(rows)[0])
        return Answer(self.named(self.answers(rows)[0], names), score if np.isfinite(score) else None)

    def target_reads(self, target: Array, names: Sequence[str]) -> str:
        """See Task."""
        return self.named(self.labels(np.asarray(target)[None])[0], names)

    def named(self, answer: Array, names: Sequence[str]) -> str:
        """Return one of `answers` as a person reads it."""
        if self.form in SEVERAL:
            return ", ".join(called(int(i), names) for i in np.flatnonzero(answer)) or "none"
        return called(int(answer), names)

    def sureness(self, outputs: Array) -> Numbers:
        """Return the probability of each answer (of several labels, of the least sure one), [samples]."""
        return self._sureness(outputs, outputs)

    def _sureness(self, outputs: Array, answering: Array) -> Numbers:
        """Return the probability that `outputs` give to the answers of `answering`, [samples]."""
        flat = outputs.reshape(len(outputs), -1).astype(np.float64)
        answers = self.answers(answering)
        if self.form == NUMBER:
            return np.asarray(flat[:, 0] == answers, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.form == "logits":
                flat = np.exp(flat - flat.max(axis=1, keepdims=True))
                flat /= flat.sum(axis=1, keepdims=True)
            elif self.form.endswith("logits") or self.form.endswith("logit"):
                flat = 1 / (1 + np.exp(-flat))
        if self.form in ONE_OF_MANY:
            return np.asarray(np.take_along_axis(flat, answers[:, None], axis=1)[:, 0])
        return np.asarray(np.where(answers.reshape(flat.shape), flat, 1 - flat).min(axis=1))


def _labelled(seen: Seen) -> Fit:
    size, target = seen.shape, seen.target_shape
    what = "whole numbers" if seen.numbers_of_classes else "zeros and ones"
    if seen.whole_outputs and not size:
        return Fit(
            NUMBER, f"output and targets are whole numbers, one a sample: {_classes(seen)} classes", _classes(seen)
        )
    kind = "probability" if seen.fractions else "logit"
    if not size:
        return Fit(f"one {kind}", f"one number a sample, a {kind}, and targets are 0 and 1", 2)
    (count,) = size
    if target == ():
        form = "probabilities" if seen.distribution else "logits"
        return Fit(form, f"{count} {form} a sample, and targets are {what}: one class", count)
    if seen.distribution or (seen.one_of_them and not seen.fractions):
        form = "probabilities" if seen.distribution else "logits"
        return Fit(form, f"{count} {form} a sample, and targets have a 1 for the class", count)
    form = "several probabilities" if seen.fractions else "several logits"
    return Fit(form, f"{count} {form.removeprefix('several ')} a sample, and a 0 or 1 for each label", count)


def _unlabelled(seen: Seen) -> Fit | None:
    size = seen.shape
    if seen.whole_outputs:
        return Fit(NUMBER, "a whole number a sample") if not size else None
    if not size:
        return Fit("one probability", "no labels; one number a sample, within 0 and 1", 2) if seen.fractions else None
    if seen.distribution:
        return Fit("probabilities", f"no labels; {size[0]} probabilities that sum to 1", size[0])
    if seen.fractions:
        return Fit("several probabilities", f"no labels; {size[0]} numbers within 0 and 1", size[0])
    return None


def _classes(seen: Seen) -> int:
    return 1 + max(seen.largest or 0, int(seen.outputs.max(initial=0)))


def _threshold(form: str) -> float:
    return 0.0 if "logit" in form else 0.5


def _alike(one: Array, other: Array) -> Numbers:
    return np.asarray((one == other).reshape(len(one), -1).all(axis=1), np.float64)


def rarest(present: Array) -> Array:
    """Return of each sample the rarest of the labels that it has, [samples]; −1 where it has none."""
    order = np.argsort(present.sum(axis=0), kind="stable")
    return np.where(present.any(axis=1), order[present[:, order].argmax(axis=1)], -1)


TASK = Classification
