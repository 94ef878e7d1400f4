"""Which task each output has: as asked for, or by what the output and its target look like."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline import tasks, user_code
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.parity import JudgedOutput
from pipeline.errors import ConfigError, DataError
from pipeline.judging.own import Own
from pipeline.judging.yardstick import Yardstick, spread
from pipeline.tasks import Fit, Seen, Task
from pipeline.tensors import Rows

AUTO = "auto"
LOOKED_AT, NUMBERS = 256, 1 << 25
"""Samples, the first ones, whose outputs and targets are looked at; fewer where they hold more numbers than these."""

Samples = Mapping[str, Rows]
"""[samples, …] by name."""


@dataclass(frozen=True)
class Choosing:
    """What decides: what the data hold; `validate.task` and `validate.budget`, each one value, or one by output."""

    dataset: DatasetRecord
    task: str | Mapping[str, str] = AUTO
    budget: str | float | Mapping[str, float] = AUTO

    def check_names(self, outputs: Iterable[str]) -> None:
        """Raise ConfigError where the configuration names an output that the model does not have."""
        there = list(outputs)
        for key, value in (("task", self.task), ("budget", self.budget)):
            if isinstance(value, Mapping) and (strange := set(value) - set(there)):
                raise ConfigError(
                    f"validate.{key} names {', '.join(sorted(strange))}, which the model does not return",
                    f"Its outputs are {', '.join(there)}.",
                )

    def yardsticks(self, original: Samples, targets: Samples) -> tuple[Yardstick, ...]:
        """Return by what each output is judged, in the model's order.

        Args:
            original: the original model's outputs.
            targets: the same samples' labels; of outputs without any, agreement with the original is judged.

        Raises:
            ConfigError: the configuration names an output that the model does not have, or no task.
            DataError: a task does not go with an output and its target, or none does.
        """
        self.check_names(original)
        if isinstance(self.task, str) and user_code.is_import_path(self.task):
            return (self._budgeted(_own("", self.task, targets), original),)
        return tuple(self._one(name, original, targets) for name in original)

    def _one(self, name: str, original: Samples, targets: Samples) -> Yardstick:
        asked = self.task if isinstance(self.task, str) else self.task.get(name, AUTO)
        if user_code.is_import_path(asked):
            return self._budgeted(_own(name, asked, targets), original)
        seen = self._seen(name, original, targets)
        kind, fit = _guessed(seen) if asked == AUTO else _asked(asked, seen)
        labels = seen.targets is not None and kind.uses(seen)
        task = kind(fit.form, fit.classes, not labels, 1.0 if labels else spread(original[name]))
        held_against = {name: targets[name] if labels else original[name]}
        why = f"{AUTO if asked == AUTO else 'asked for'}: {fit.why}"
        return self._budgeted(Yardstick(name, task, why, held_against, labels, random=self.dataset.random), original)

    def _seen(self, name: str, original: Samples, targets: Samples) -> Seen:
        few = slice(0, max(1, min(LOOKED_AT, NUMBERS // max(1, math.prod(original[name].shape[1:])))))
        known = self.dataset.target(name)
        labels = np.asarray(targets[name][few]) if name in targets else None
        return Seen(name, np.asarray(original[name][few]), labels, known.largest if known else None)

    def _budgeted(self, yardstick: Yardstick, original: Samples) -> Yardstick:
        asked = self.budget.get(yardstick.output, AUTO) if isinstance(self.budget, Mapping) else self.budget
        if not isinstance(asked, str):
            return replace(yardstick, budget=float(asked), budget_why="validate.budget")
        with np.errstate(invalid="ignore", over="ignore"):  # of outputs that are no numbers: they fail by themselves
            budget, why = yardstick.task.budget(yardstick.value(original))
        return replace(yardstick, budget=budget if math.isfinite(budget) else 0.0, budget_why=why)


def _own(name: str, path: str, targets: Samples) -> Yardstick:
    if not targets:
        raise DataError(
            f"validate.task = {path!r} needs labels, and there are none", "Give targets, or a task by name."
        )
    return Yardstick(name, Own.named(path), "asked for", targets, labels=True)


def _asked(name: str, seen: Seen) -> tuple[type[Task], Fit]:
    kind = tasks.get(name)
    return kind, kind.asked(seen if kind.uses(seen) else replace(seen, targets=None))


def _guessed(seen: Seen) -> tuple[type[Task], Fit]:
    for kind in map(tasks.get, tasks.NAMES):
        if fit := kind.guess(seen):
            return kind, fit
    raise seen.refuse()


def task_of(record: JudgedOutput) -> Task:
    """Return the task that was chosen, as it was recorded.

    Raises:
        DataError: the user's function is no longer there.
    """
    if user_code.is_import_path(record.task):
        return Own.named(record.task)
    return tasks.get(record.task)(record.form, record.classes, not record.labels)


def unlabelled(outputs: Samples) -> dict[str, Task]:
    """Return the task of each output by what it looks like alone, as where nothing was validated yet."""
    found = {}
    for name, rows in outputs.items():
        kind, fit = _guessed(Seen(name, np.asarray(rows[:LOOKED_AT])))
        found[name] = kind(fit.form, fit.classes, agreement=True)
    return found


def class_names(dataset: DatasetRecord, output: str) -> Sequence[str]:
    """Return the names of an output's classes, their numbers where they have none; none where there are none."""
    target = dataset.target(output)
    return target.classes if target else ()
