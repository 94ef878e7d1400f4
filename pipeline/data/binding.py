"""Fitting a data set to a model: names, types and shapes, with both sides named where they do not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.data import images, random_inputs
from pipeline.data.rows import Which, batches
from pipeline.data.splits import THE_ONLY, Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Array, Rows, Signature, TensorSpec


@dataclass(frozen=True)
class Fitted:
    """Samples as the model takes them: of its type, and with a last axis of one more or less than they have."""

    rows: Rows
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Which) -> Array:
        """Return the samples of a slice or of an array of indices, in memory.

        Raises:
            DataError: an integer does not fit the model's type.
        """
        found = self.rows[which]
        with np.errstate(over="ignore"):  # infinite then, which the inspection finds and names
            result = found.reshape(len(found), *self.shape[1:]).astype(self.dtype, copy=False)
        if found.dtype.kind in "iu" and self.dtype.kind in "iu" and not np.can_cast(found.dtype, self.dtype):
            limits = np.iinfo(self.dtype)
            if found.size and (found.min() < limits.min or found.max() > limits.max):
                raise DataError(
                    f"the data hold integers from {found.min()} to {found.max()}, and the model takes {self.dtype}, "
                    f"{limits.min} to {limits.max}",
                    "Convert the data.",
                )
        return result


def bind(dataset: Dataset, signature: Signature) -> Dataset:
    """Return the data set with the model's own names, types and shapes. Random inputs are drawn for it.

    An input or target without a name becomes the model's only one. Images become as large as the model takes them.

    Raises:
        DataError: the model has inputs that the data lacks, or the other way round; a type or shape does not fit; or a
            label is none of the output's classes, or has no name where classes have names.
    """
    if dataset.random:
        return random_inputs.draw(dataset, signature)
    inputs = _names(dataset.test.inputs, [spec.name for spec in signature.inputs], "input")
    targets = _names(dataset.test.targets, [spec.name for spec in signature.outputs], "output")
    if missing := [spec.name for spec in signature.inputs if spec.name not in inputs.values()]:
        raise DataError(
            f"{dataset.name} has nothing for the model's input {', '.join(missing)}",
            f"The model takes {_list(signature.inputs)}; the data has {_rows(dataset.test.inputs)}.",
        )
    taken = {spec.name: spec for spec in signature.inputs}
    returned = {spec.name: spec for spec in signature.outputs}

    def fit(name: str, split: Split) -> Split:
        where = f"{dataset.name}, {name} split"
        found = {inputs[key]: _input(where, key, rows, taken[inputs[key]]) for key, rows in split.inputs.items()}
        return Split(
            {spec.name: found[spec.name] for spec in signature.inputs},
            {targets[key]: _target(where, rows, returned[targets[key]]) for key, rows in split.targets.items()},
        )

    class_names = {targets[name]: names for name, names in dataset.class_names.items() if name in targets}
    bound = replace(dataset.each(fit), class_names=class_names)
    for target in bound.targets:
        if target.class_names and target.largest is not None and target.largest >= len(target.class_names):
            raise DataError(
                f"{dataset.name} has the label {target.largest} of {target.name}, and names {len(target.class_names)} "
                f"classes: {', '.join(target.class_names)}",
                "Number the classes from 0, and name all of them.",
            )
    return bound


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


def _input(where: str, name: str, rows: Rows, spec: TensorSpec) -> Rows:
    """Return an input's samples as the model takes them."""
    rows = images.sized(rows, spec)
    one = TensorSpec(spec.name, (None, *spec.shape[1:]), spec.dtype)
    shape = rows.shape
    if not one.fits(shape) and spec.shape[-1:] == (1,):
        shape = (*shape, 1)
    if not one.fits(shape):
        raise DataError(
            f"{where}: {name or 'its input'} holds samples of shape {list(rows.shape[1:])}, and the model's "
            f"input {spec.name} takes {['any' if size is None else size for size in spec.shape[1:]]}",
            "Give data of the model's shape.",
        )
    if not _converts(rows.dtype, spec.dtype):
        raise DataError(
            f"{where}: {name or 'its input'} is {rows.dtype}, and the model's input {spec.name} is {spec.dtype}",
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
        return have.kind in "fiub" or np.can_cast(have, want)
    return np.can_cast(have, want) or (have.kind in "iu" and want.kind in "iu" and want.itemsize >= 4)


def _target(where: str, rows: Rows, spec: TensorSpec) -> Rows:
    """Return a target's samples, after a look at their labels where they are numbers of an output's classes.

    They are where they are integers, and the output has an axis more than they: its last, of the classes.
    """
    classes = spec.shape[-1] if spec.shape else None
    if rows.dtype.kind not in "iu" or classes in (None, 1):
        return rows
    if len(rows.shape) == len(spec.shape) and rows.shape[-1] == 1:
        rows = Fitted(rows, rows.shape[:-1], rows.dtype)
    if len(rows.shape) == len(spec.shape) - 1:
        _refuse_strangers(where, rows, spec.name, classes)
    return rows


def _refuse_strangers(where: str, rows: Rows, output: str, classes: int) -> None:
    for which in batches(rows):
        found = rows[which]
        wrong = np.argwhere((found < 0) | (found >= classes))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise DataError(
                f"{where}: sample {which.start + at[0]} has the label {found[at]}, and the model's output {output} has "
                f"{classes} classes, 0 to {classes - 1}",
                "Number the classes from 0, or give a model with as many classes as the data. Give numbers that are no "
                "classes as floats.",
            )


def _list(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))


def _rows(found: Mapping[str, Rows]) -> str:
    return ", ".join(f"{name or '(no name)'} {rows.dtype}{list(rows.shape)}" for name, rows in found.items())
