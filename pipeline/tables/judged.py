"""How what an output is judged by is written: its metric, its unit, its budget, for one output or several."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.artifacts.history import TestMetric, TrainingHistory
from pipeline.artifacts.parity import JudgedOutput
from pipeline.tables.numbers import written
from pipeline.tables.table import Mixed, Number, with_interval
from pipeline.tables.traced import Seen, plain

POINTS = "points"
"""The unit of what is a fraction: percentage points."""

NO_NUMBER = "not finite"
"""Stands for a number where an output is NaN or Inf."""


def value_kind(unit: Seen[str]) -> str:
    """Return how the metric of this unit is written."""
    return "fraction" if plain(unit) == POINTS else "number"


def loss_kind(unit: Seen[str]) -> str:
    """Return how a loss in this unit is written."""
    return POINTS if plain(unit) == POINTS else "signed"


def loss(comparison: Any) -> Mixed | str:
    """Return an output's loss with its interval, traced or not."""
    if plain(comparison.loss) is None:
        return NO_NUMBER
    ends = comparison.loss_ci95 if plain(comparison.loss_ci95) is not None else None
    return with_interval(comparison.loss, ends, loss_kind(comparison.unit))


def losses(comparison: Any) -> Mixed | str:
    """Return the loss of every output, each named where there are several, traced or not."""
    outputs = list(comparison.outputs)
    if len(outputs) == 1:
        return loss(outputs[0])
    parts: list[str | Number] = []
    for one in outputs:
        cell = loss(one)
        parts.append(f"{'; ' if parts else ''}{plain(one.output)} ")
        parts += [cell] if isinstance(cell, str) else cell.parts
        parts.append(f" {plain(one.unit)}")
    return Mixed(tuple(parts))


def worsening(outputs: Sequence[JudgedOutput]) -> str:
    """Return what a loss is called: `drop, points`, `rise, target's unit`; `loss` where outputs differ in that."""
    known = {(one.direction, one.unit) for one in outputs}
    if len(known) != 1:
        return "loss"
    ((direction, unit),) = known
    return f"{'drop' if direction == 'higher' else 'rise'}, {unit}"


def budgets(outputs: Iterable[JudgedOutput]) -> str:
    """Return how much may be lost, as `0.5 points`; by output where there are several."""
    return _by_output([(one.output, f"{one.budget:.4g} {one.unit}") for one in outputs])


def intervals(outputs: Iterable[JudgedOutput]) -> str:
    """Return which intervals the losses have."""
    return "; ".join(dict.fromkeys(one.interval for one in outputs))


def metrics(outputs: Iterable[JudgedOutput]) -> str:
    """Return what is measured, as `accuracy`; by output where there are several."""
    return _by_output([(one.output, one.measured) for one in outputs])


def tested(history: TrainingHistory) -> str:
    """Return how good the model is on the test split, as `accuracy 0.9722`; empty where that is not known."""
    return _by_output([(one.output, _metric(one)) for one in history.test])


def _metric(one: TestMetric) -> str:
    return f"{one.metric} {NO_NUMBER if one.value is None else written(one.value, 'fraction')}"


def _by_output(found: Sequence[tuple[str, str]]) -> str:
    words = {text for _, text in found}
    if len(words) == 1:
        return words.pop()
    return "; ".join(f"{output}: {text}" for output, text in found)
