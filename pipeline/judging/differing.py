"""The samples to which a candidate gives another answer than the reference, or a worse one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.artifacts.disagreements import Answer, DifferingSample
from pipeline.judging.yardstick import Yardstick, slices, some
from pipeline.tensors import Outputs


@dataclass(frozen=True)
class Differing:
    """How many samples differ, and those that fell most."""

    count: int
    samples: tuple[DifferingSample, ...]


def differing(
    yardstick: Yardstick, reference: Outputs, candidate: Outputs, names: Sequence[str], limit: int
) -> Differing:
    """Return how many samples differ by a yardstick, and the `limit` that fell most; `names` are the classes'."""
    flags, falls = [], []
    one, other = yardstick.taken(reference), yardstick.taken(candidate)
    with np.errstate(invalid="ignore", over="ignore"):
        for which in slices(one):
            left, right = (yardstick.picked(some(outputs, which)) for outputs in (one, other))
            changed = yardstick.task.changed(left, right, yardstick.expected(which), yardstick.budget)
            flags.append(changed.differs)
            falls.append(changed.fall)
    differs, fall = np.flatnonzero(np.concatenate(flags)), np.concatenate(falls)
    gravest = differs[np.argsort(-np.nan_to_num(fall[differs], nan=np.inf), kind="stable")[:limit]]
    samples = (_sample(yardstick, reference, candidate, int(index), names) for index in gravest)
    return Differing(len(differs), tuple(samples))


def _sample(
    yardstick: Yardstick, reference: Outputs, candidate: Outputs, index: int, names: Sequence[str]
) -> DifferingSample:
    which = slice(index, index + 1)
    target = _alone(yardstick.expected(which))

    def answer(outputs: Outputs) -> Answer:
        rows = yardstick.picked(some(yardstick.taken(outputs), which))
        text, score = yardstick.task.reads(_alone(rows), names, target)
        return Answer(text=text, score=score if score is not None and math.isfinite(score) else None)

    return DifferingSample(
        index=index,
        expected=yardstick.task.target_reads(target, names) if yardstick.labels else None,
        reference=answer(reference),
        candidate=answer(candidate),
    )


def _alone(found: Any) -> Any:
    """Return the only sample of some."""
    return {name: rows[0] for name, rows in found.items()} if isinstance(found, dict) else found[0]
