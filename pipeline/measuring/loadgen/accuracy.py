"""How good LoadGen's answers were, by the tasks that validation chose, beside what validation found."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.artifacts.loadgen import LoadgenAccuracy
from pipeline.artifacts.parity import JudgedOutput, ParityReport
from pipeline.artifacts.runner import RunnerRecord
from pipeline.data import Split
from pipeline.judging.choosing import task_of
from pipeline.judging.yardstick import Yardstick
from pipeline.tasks import Direction
from pipeline.tasks.classification import ONE_OF_MANY
from pipeline.tensors import Outputs

TARGETS = {"99 %": 0.99, "99.9 %": 0.999}
"""MLPerf's accuracy targets, as fractions of the FP32 model's."""


class Answered(NamedTuple):
    """What was answered in accuracy mode: how many samples, and the metric of each output by name."""

    samples: int
    answered: int
    values: dict[str, float]


def best_of(judged: Sequence[JudgedOutput]) -> str:
    """Return the output of which the best class says all that is judged, so that answers are small; else nothing."""
    alone = len(judged) == 1 and judged[0].task == "classification" and judged[0].form in ONE_OF_MANY
    return judged[0].output if alone else ""


def values(judged: Sequence[JudgedOutput], answers: Outputs, test: Split) -> dict[str, float]:
    """Return the metric of each output that has labels, of the answers to the samples of a split."""
    if best := best_of(judged):  # as scores again, of which that class has the only one
        answers = {best: (answers[best][:, None] == np.arange(judged[0].classes)).astype(np.uint8)}
    found = {}
    for one in judged:
        if one.labels:
            targets = {one.output: test.targets[one.output]} if one.output in test.targets else test.targets
            found[one.output] = Yardstick(one.output, task_of(one), one.why, targets, labels=True).value(answers)
    return found


def beside_validation(parity: ParityReport, runner: RunnerRecord, answered: Answered) -> tuple[LoadgenAccuracy, ...]:
    """Return how good the answers were, beside what validation found of this very runner and MLPerf's targets."""
    judged = parity.judged(runner)
    if runner.role == "original":  # the exact run of it stands for it
        judged = parity.runners[0]
    found = []
    for place, one in enumerate(parity.outputs):
        if one.output not in answered.values:
            continue
        totals = [row.total.outputs[place] for row in parity.runners if row.total]
        fp32 = totals[0].reference if totals else None
        validated = judged.total.outputs[place].candidate if judged and judged.total else None
        value = answered.values[one.output]
        share = _share(value, fp32, one.direction)
        found.append(
            LoadgenAccuracy(
                output=one.output,
                metric=one.metric,
                value=value if math.isfinite(value) else None,
                samples=answered.samples,
                validated_runner=judged.runner.name if judged else runner.name,
                validated=fp32 if runner.role == "original" else validated,
                fp32=fp32,
                of_fp32=share,
                meets_99=share is not None and share >= TARGETS["99 %"],
                meets_99_9=share is not None and share >= TARGETS["99.9 %"],
            )
        )
    return tuple(found)


def _share(value: float, fp32: float | None, direction: Direction) -> float | None:
    """Return how much of the original's metric is reached; of an error, the original's as a share of it."""
    part, whole = (value, fp32) if direction == "higher" else (fp32, value)
    return part / whole if part is not None and whole and math.isfinite(part / whole) else None
