"""By what an output is judged, with the targets it is held against, read a few samples at a time."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.artifacts.parity import JudgedOutput
from pipeline.judging.own import Own
from pipeline.paired import BOOTSTRAP, TANGO
from pipeline.tasks import Numbers, Task
from pipeline.tensors import Feed, Rows

AT_ONCE = 1 << 22
"""Numbers of the outputs that are looked at together: 32 MB of each in float64."""


@dataclass(frozen=True)
class Yardstick:
    """The task of an output, its targets, and how much may be lost.

    `output` is empty where a function of the user's own judges all together. `targets` are the labels by name; without
    `labels` they are the original's outputs.
    """

    output: str
    task: Task
    why: str
    targets: Mapping[str, Rows]
    labels: bool
    budget: float = 0.0
    budget_why: str = ""
    random: bool = False
    """Whether the inputs are random numbers, on which a model's answers mean nothing."""

    @property
    def record(self) -> JudgedOutput:
        """What artifacts say of it."""
        task = self.task
        return JudgedOutput(
            output=self.output,
            task=task.path if isinstance(task, Own) else task.NAME,
            form=task.form,
            classes=task.classes,
            why=self.why,
            labels=self.labels,
            metric=task.metric,
            unit=task.unit,
            direction=task.direction,
            budget=self.budget,
            budget_why=self.budget_why,
            interval=TANGO if task.PROPORTION else BOOTSTRAP,
        )

    def judged(self, outputs: Mapping[str, Rows]) -> Mapping[str, Rows]:
        """Return the outputs that are judged: one, or all."""
        return {self.output: outputs[self.output]} if self.output else outputs

    def taken(self, outputs: Mapping[str, Rows]) -> Mapping[str, Rows]:
        """Return the outputs that the task looks at: the one that is judged; a user's function gets all."""
        return outputs if isinstance(self.task, Own) else self.judged(outputs)

    def picked(self, outputs: Feed) -> Any:
        """Return some samples' outputs as the task takes them: one array, or all by name."""
        return outputs if isinstance(self.task, Own) else outputs[self.output]

    def expected(self, which: slice) -> Any:
        """Return some samples' targets as the task takes them."""
        if isinstance(self.task, Own):
            return some(self.targets, which)
        rows = np.asarray(self.targets[self.output][which])
        return rows if self.labels else self.task.expected(rows)

    def parts(self, outputs: Feed, which: slice) -> Numbers:
        """Return the parts of the metric of some samples, [samples, numbers]."""
        return self.task.parts(self.picked(outputs), self.expected(which))

    def value(self, outputs: Mapping[str, Rows]) -> float:
        """Return the metric of all samples."""
        taken = self.taken(outputs)
        found = [self.parts(some(taken, which), which) for which in slices(taken)]
        return float(self.task.aggregate(np.concatenate(found).mean(axis=0)))


def some(outputs: Mapping[str, Rows], which: slice) -> Feed:
    """Return the outputs of some samples, in memory."""
    return {name: np.asarray(rows[which]) for name, rows in outputs.items()}


def slices(outputs: Mapping[str, Rows]) -> Iterator[slice]:
    """Yield the slices of all samples, so many at a time that memory stays bounded."""
    count = min(map(len, outputs.values()))
    numbers = sum(math.prod(rows.shape[1:]) for rows in outputs.values())
    size = max(1, AT_ONCE // max(1, numbers))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def spread(rows: Rows) -> float:
    """Return the standard deviation of all numbers of an output; 1 where they are all the same, or no numbers."""
    total = squares = 0.0
    count = math.prod(rows.shape)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf: no number comes of them
        for which in slices({"": rows}):
            total += float(np.sum(rows[which], dtype=np.float64))
        for which in slices({"": rows}):
            squares += float(((np.asarray(rows[which], np.float64) - total / count) ** 2).sum())
    found = math.sqrt(squares / count)
    return found if found > 0 and math.isfinite(found) else 1.0
