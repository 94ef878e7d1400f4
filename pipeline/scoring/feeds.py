"""Rows as a model takes them: what goes in together, and the rows that cannot, each with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.tensors import Array, Feed, TensorSpec

Indices = NDArray[np.int64]


class Values(NamedTuple):
    """What some rows hold for one input: an array [rows, …], or a list of arrays where they differ in shape.

    `errors` says of a row by its number why it holds nothing of use; what stands in its place means nothing.
    """

    rows: Array | Sequence[Array | None]
    errors: Mapping[int, str]


class Fitted(Values):
    """The same, as one array."""

    rows: Array


class Samples(NamedTuple):
    """Some rows: the numbers of those that go in together, each group with its feed; and why others cannot."""

    size: int
    groups: Sequence[tuple[Indices, Feed]]
    errors: Mapping[int, str]


def together(values: Mapping[str, Values], count: int) -> Samples:
    """Return `count` rows from what they hold for each input, those of equal shapes together."""
    errors: dict[int, str] = {}
    for name, one in values.items():
        for row, reason in one.errors.items():
            errors.setdefault(row, f"{name}: {reason}")
    good = np.array([row for row in range(count) if row not in errors], np.int64) if errors else np.arange(count)
    if not len(good):
        return Samples(count, (), errors)
    if all(isinstance(one.rows, np.ndarray) for one in values.values()):
        feed = {name: np.asarray(one.rows)[good] if errors else np.asarray(one.rows) for name, one in values.items()}
        return Samples(count, ((good, feed),), errors)
    shapes: dict[tuple[Any, ...], list[int]] = {}
    for row in good.tolist():
        shapes.setdefault(tuple(np.shape(one.rows[row]) for one in values.values()), []).append(row)
    groups = [
        (np.array(rows), {name: np.stack([np.asarray(one.rows[row]) for row in rows]) for name, one in values.items()})
        for rows in shapes.values()
    ]
    return Samples(count, groups, errors)


def fitted(rows: Array, spec: TensorSpec) -> Fitted:
    """Return numbers [rows, …] of any type in an input's shape and type.

    A row with a number that the type does not hold is an error: 256 or 0.5 for uint8, 1e300 for float32.
    """
    shaped = rows.reshape(len(rows), *sizes(spec, rows))
    if shaped.dtype == spec.dtype:
        return Fitted(shaped, {})
    with np.errstate(all="ignore"):
        cast = shaped.astype(spec.dtype)
        wrong = np.isinf(cast) & np.isfinite(shaped) if spec.dtype.kind == "f" else cast != shaped
    bad = np.flatnonzero(wrong.any(axis=tuple(range(1, wrong.ndim)))).tolist()
    return Fitted(cast, dict.fromkeys(bad, f"a number that {spec.dtype} does not hold"))


def sizes(spec: TensorSpec, rows: Array) -> tuple[int, ...]:
    """Return the shape of a sample of an input, with its one dynamic axis as the numbers of a row make it."""
    known = int(np.prod([size for size in spec.shape[1:] if size is not None]))
    numbers = int(np.prod(rows.shape[1:]))
    return tuple(numbers // max(known, 1) if size is None else size for size in spec.shape[1:])
