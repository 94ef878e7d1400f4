"""Fitting a data set to a model: names, types and shapes, with both sides named where they do not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.data.splits import THE_ONLY, Dataset, Rows, Split, Which
from pipeline.errors import DataError
from pipeline.tensors import Array, Signature, TensorSpec


@dataclass(frozen=True)
class Fitted:
    """Samples as the model takes them: of its type, and with the last axis of one channel that images may lack."""

    rows: Rows
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Which) -> Array:
        found = self.rows[which]
        return found.reshape(len(found), *self.shape[1:]).astype(self.dtype, copy=False)


def bind(dataset: Dataset, signature: Signature) -> Dataset:
    """Return the data set with the model's own names, types and shapes.

    An input or target without a name becomes the model's only one.

    Raises:
        DataError: the model has inputs that the data lacks, or the other way round; or a type or shape does not fit.
    """
    inputs = _names(dataset.test.inputs, [spec.name for spec in signature.inputs], "input")
    targets = _names(dataset.test.targets, [spec.name for spec in signature.outputs], "output")
    if missing := [spec.name for spec in signature.inputs if spec.name not in inputs.values()]:
        raise DataError(
            f"{dataset.name} has nothing for the model's input {', '.join(missing)}",
            f"The model takes {_list(signature.inputs)}; the data has {_rows(dataset.test.inputs)}.",
        )
    specs = {spec.name: spec for spec in signature.inputs}

    def fit(split: Split) -> Split:
        found = {inputs[name]: _fitted(dataset, name, rows, specs[inputs[name]]) for name, rows in split.inputs.items()}
        return Split(
            {spec.name: found[spec.name] for spec in signature.inputs},
            {targets[name]: rows for name, rows in split.targets.items()},
        )

    return replace(
        dataset,
        train=fit(dataset.train),
        validation=fit(dataset.validation),
        test=fit(dataset.test),
        class_names={targets[name]: names for name, names in dataset.class_names.items() if name in targets},
    )


def _names(found: Mapping[str, Rows], wanted: Sequence[str], what: str) -> dict[str, str]:
    """Return the model's name for each of the data's."""
    names = {}
    for name in found:
        if name in wanted:
            names[name] = name
        elif name == THE_ONLY and len(wanted) == 1:
            names[name] = wanted[0]
        else:
            called = f"{name!r}" if name else "without a name"
            raise DataError(
                f"the data has an {what} {called}, and the model's {what}s are {', '.join(wanted)}",
                f"Name the data's {what}s as the model's (in an .npz file {'x' if what == 'input' else 'y'}/<{what}>).",
            )
    return names


def _fitted(dataset: Dataset, name: str, rows: Rows, spec: TensorSpec) -> Rows:
    shape = rows.shape
    if not spec.fits(shape) and spec.shape[-1:] == (1,) and spec.fits((*shape, 1)):
        shape = (*shape, 1)
    if not spec.fits(shape):
        sizes = "any" if None in spec.shape[1:] else ""
        raise DataError(
            f"{dataset.name}: {name or 'its input'} holds samples of shape {list(rows.shape[1:])}, and the model's "
            f"input {spec.name} takes {['any' if size is None else size for size in spec.shape[1:]]}",
            f"Give data of the model's shape{' (any: a dynamic axis)' if sizes else ''}.",
        )
    if not _converts(rows.dtype, spec.dtype):
        raise DataError(
            f"{dataset.name}: {name or 'its input'} is {rows.dtype}, and the model's input {spec.name} is {spec.dtype}",
            f"Convert the data: {rows.dtype} numbers cannot become {spec.dtype} without a loss.",
        )
    if shape == rows.shape and rows.dtype == spec.dtype:
        return rows
    return Fitted(rows, shape, spec.dtype)


def _converts(have: np.dtype[Any], want: np.dtype[Any]) -> bool:
    """Tell whether numbers may be converted: between floats, from integers to floats, to a wider integer."""
    if have == want:
        return True
    if want.kind == "f":
        return have.kind in "fiub"
    return np.can_cast(have, want) or (have.kind in "iu" and want.kind in "iu" and want.itemsize >= 4)


def _list(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))


def _rows(found: Mapping[str, Rows]) -> str:
    return ", ".join(f"{name or '(no name)'} {rows.dtype}{list(rows.shape)}" for name, rows in found.items())
