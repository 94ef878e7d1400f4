"""A data set from a function of the user's own (`data.source = "package.module:function"`)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline import user_code
from pipeline.data import streams
from pipeline.data.assembling import WHOLE, assemble, check, numbered, split
from pipeline.data.rows import Taken, Which
from pipeline.data.splits import Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Array, Rows

RETURN = (
    "Return inputs, or (inputs, targets), or ((train_inputs, train_targets), (test_inputs, test_targets)): arrays, or "
    "dictionaries of arrays by name; or a pipeline.data.Dataset, a finite tf.data.Dataset or a keras.utils.PyDataset."
)


def load(source: str) -> Dataset:
    """Call the user's function, which takes nothing and returns what `RETURN` says.

    Raises:
        DataError: there is no such function, or what it returns cannot be used, and why.
    """
    function = user_code.import_function(source, "data.source")
    result = user_code.call(function, said=f"data.source {source} raised", hint=RETURN)
    try:
        if isinstance(result, Dataset):
            return _checked(replace(result, name=source))
        parts = _parts(result, source)
    except (TypeError, ValueError) as error:
        raise DataError(f"data.source {source}: {error}", RETURN) from error
    return assemble(source, "data.source", parts)


@dataclass(frozen=True)
class Guarded:
    """Rows of a class of the user's own: what reading them raises is told as theirs (`user_code.running`)."""

    rows: Rows
    said: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of samples, then the shape of one."""
        return tuple(self.rows.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of an element."""
        return self.rows.dtype

    def __len__(self) -> int:
        return int(user_code.call(len, self.rows, said=self.said))

    def __getitem__(self, which: Which) -> Array:
        return np.asarray(user_code.call(self.rows.__getitem__, which, said=self.said))


def _checked(given: Dataset) -> Dataset:
    """Return a data set that a function made.

    Raises:
        ValueError: a part of it is not what it should be.
    """
    for key, value in (("origin", given.origin), ("substitute", given.substitute)):
        if not isinstance(value, str):
            raise ValueError(f"its {key} is {value!r}, not text")
    names = given.class_names
    if not isinstance(names, Mapping) or not all(map(_are_names, names.values())):
        raise ValueError('its class_names are not {"output": ("name", …)}')
    check(*given.splits.values())
    said = f"data.source {given.name}: reading it raised"

    def guarded(rows: Mapping[str, Rows]) -> dict[str, Rows]:
        ours = np.ndarray, Taken, Guarded
        return {name: one if isinstance(one, ours) else Guarded(one, said) for name, one in rows.items()}

    return replace(
        given.each(lambda _, one: Split(guarded(one.inputs), numbered(guarded(one.targets)))),
        class_names={str(name): tuple(found) for name, found in names.items()},
    )


def _are_names(found: object) -> bool:
    return isinstance(found, list | tuple) and all(isinstance(one, str) for one in found)


def _parts(result: Any, source: str) -> dict[str, Split]:
    """Return the splits of what a function returned: two or three pairs are splits, anything else is all samples."""
    if (
        isinstance(result, list | tuple)
        and len(result) in (2, 3)
        and all(streams.is_stream(one) or isinstance(one, tuple) for one in result)
    ):
        names = ("train", "test") if len(result) == 2 else ("train", "validation", "test")
        return {name: _split(one, source) for name, one in zip(names, result, strict=True)}
    return {WHOLE: _split(result, source)}


def _split(given: Any, source: str) -> Split:
    if streams.is_stream(given):
        return streams.stored(given, f"data.source {source}:")
    if isinstance(given, tuple):
        if len(given) != 2:
            raise ValueError(f"a tuple of {len(given)}, not (inputs, targets)")
        return split(*given)
    if given is None:
        raise ValueError("it returned nothing")
    return split(given)
