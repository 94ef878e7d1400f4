"""What a model returned, as columns: the numbers, and for a classification the answer and its probability."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.artifacts.bundle import BundleOutput
from pipeline.scoring.scorer import Scored
from pipeline.tasks.classification import Classification
from pipeline.tensors import Array

ERROR = "error"


def schema(outputs: Sequence[BundleOutput]) -> Any:
    """Return the columns that `columns` makes.

    For each output its numbers, one after the other; where a sample's shape is dynamic, that shape; where it is a
    classification, `answer` and `score`, with the output's name before them where there are several; and `error`.
    """
    fields = []
    for one in outputs:
        kind = pa.from_numpy_dtype(np.dtype(one.dtype))
        numbers = size(one)
        fields.append(pa.field(one.name, pa.list_(kind) if numbers is None else pa.list_(kind, numbers)))
        if numbers is None:
            fields.append(pa.field(f"{one.name}_shape", pa.list_(pa.int32())))
        if one.task == Classification.NAME:
            before = prefix(one, outputs)
            fields += [pa.field(f"{before}answer", pa.string()), pa.field(f"{before}score", pa.float64())]
    return pa.schema([*fields, pa.field(ERROR, pa.string())])


def prefix(one: BundleOutput, outputs: Sequence[BundleOutput]) -> str:
    """Return what stands before `answer` and `score` of an output."""
    return f"{one.name}_" if len(outputs) > 1 else ""


def columns(outputs: Sequence[BundleOutput], scored: Scored) -> list[Any]:
    """Return the columns of `schema` for some rows."""
    errors = dict(scored.errors)
    found: list[Any] = []
    for one in outputs:
        missing = np.ones(scored.size, bool)
        missing[scored.rows] = False
        rows = scored.outputs.get(one.name, ())
        numbers = size(one)
        if numbers is None:
            by_row = dict(zip(scored.rows.tolist(), rows, strict=True))
            found += [_lists(by_row, scored.size, one), _shapes(by_row, scored.size)]
        else:
            found.append(_fixed(rows, scored, numbers, one, missing))
        if one.task == Classification.NAME:
            found += _answers(one, rows, scored, errors)
    found.append(pa.array([errors.get(row) for row in range(scored.size)], pa.string()))
    return found


def read(one: BundleOutput, rows: Array) -> tuple[list[str | None], Array]:
    """Return the answers of a classification to samples [rows, …] and how probable they are; None and NaN where the
    numbers are none.
    """
    task = Classification(one.form, len(one.classes))
    with np.errstate(invalid="ignore"):
        answers, scores = task.answers(rows), task.sureness(rows)
    sound = np.isfinite(rows.reshape(len(rows), -1).astype(np.float64)).all(axis=1) & np.isfinite(scores)
    names = [task.named(answer, one.classes) if fine else None for answer, fine in zip(answers, sound, strict=True)]
    return names, np.where(sound, scores, np.nan)


def _answers(one: BundleOutput, rows: Any, scored: Scored, errors: dict[int, str]) -> list[Any]:
    texts: list[str | None] = [None] * scored.size
    scores: list[float | None] = [None] * scored.size
    if len(scored.rows):
        names, probabilities = read(one, np.asarray(rows))
        for row, name, score in zip(scored.rows.tolist(), names, probabilities.tolist(), strict=True):
            if name is None:
                errors.setdefault(row, f"{one.name} is not finite")
            else:
                texts[row], scores[row] = name, score
    return [pa.array(texts, pa.string()), pa.array(scores, pa.float64())]


def _fixed(rows: Any, scored: Scored, numbers: int, one: BundleOutput, missing: Array) -> Any:
    whole = np.zeros((scored.size, numbers), one.dtype)
    if len(scored.rows):
        whole[scored.rows] = np.reshape(rows, (len(scored.rows), numbers))
    return pa.FixedSizeListArray.from_arrays(pa.array(whole.reshape(-1)), numbers, mask=pa.array(missing))


def _lists(by_row: Mapping[int, Array], count: int, one: BundleOutput) -> Any:
    flat = [by_row[row].reshape(-1) if row in by_row else None for row in range(count)]
    return pa.array(flat, pa.list_(pa.from_numpy_dtype(np.dtype(one.dtype))))


def _shapes(by_row: Mapping[int, Array], count: int) -> Any:
    return pa.array([by_row[row].shape if row in by_row else None for row in range(count)], pa.list_(pa.int32()))


def size(one: BundleOutput) -> int | None:
    """Return how many numbers a sample has; None where that may differ."""
    return None if None in one.shape[1:] else int(np.prod([size or 0 for size in one.shape[1:]]))
