"""Three splits from what a source has: checked, labels as plain numbers, and what it does not split is split here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.rows import is_label
from pipeline.data.splits import SPLIT_SEED, THE_ONLY, Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Rows

WHOLE = ""
"""The name of the one split that a source has which does not split its samples."""

HELD_OUT = 10
"""Of so many samples, one is for the test and one for validation."""

PAD = "Pad sequences to one length (keras.utils.pad_sequences), and let the model mask the padding."


def assemble(
    name: str,
    origin: str,
    parts: Mapping[str, Split],
    class_names: tuple[str, ...] = (),
) -> Dataset:
    """Return a data set of the splits that a source has.

    Args:
        name: the source, as configured.
        origin: in words, for readers.
        parts: all samples, as `WHOLE`, or those of `train` and `test`, or those of all three splits. What is missing is
            taken from the others by a fixed rule, evenly from each class where a target is one: a tenth for the test, a
            tenth for validation.
        class_names: of the only target.

    Raises:
        DataError: a split has no samples, too few, or others than its arrays or other splits have.
    """
    if set(parts) not in ({WHOLE}, {"train", "test"}, {"train", "validation", "test"}):
        raise DataError(
            f"data.source {name} has samples of {', '.join(sorted(one or 'no split' for one in parts))}",
            "Give all samples unsplit, or train and test, or train, validation and test.",
        )
    try:
        check(*parts.values())
        parts = {key: Split(one.inputs, numbered(one.targets)) for key, one in parts.items()}
        if set(parts) == {WHOLE}:
            parts = dict(zip(("test", "validation", "train"), _divided(parts[WHOLE], 2), strict=True))
        elif "validation" not in parts:
            validation, train = _divided(parts["train"], 1)
            parts = {"train": train, "validation": validation, "test": parts["test"]}
    except ValueError as error:
        raise DataError(f"data.source {name}: {error}", _hint(str(error))) from error
    names = {THE_ONLY: class_names} if class_names and parts["test"].targets else {}
    return Dataset(name, origin, parts["train"], parts["validation"], parts["test"], names)


def split(inputs: Any, targets: Any = None) -> Split:
    """Return the samples of arrays, or of dictionaries of arrays; `targets` may be None.

    Raises:
        ValueError: an array is ragged.
    """
    return Split(_named(inputs), {} if targets is None else _named(targets))


def _named(given: Any) -> dict[str, Rows]:
    if isinstance(given, Mapping):
        return {str(name): _array(value, str(name)) for name, value in given.items()}
    return {THE_ONLY: _array(given, "")}


def _array(given: Any, name: str) -> Rows:
    try:
        return np.asarray(given)
    except ValueError as error:  # NumPy's own words for lists of different lengths
        raise ValueError(f"{name or 'an array'} is ragged: {error}") from error


def numbered(targets: Mapping[str, Rows]) -> dict[str, Rows]:
    """Return labels as int64 [samples]: Keras's own data sets have them as [samples, 1], and of other types."""
    return {
        name: np.asarray(rows[:]).reshape(len(rows)).astype(np.int64) if is_label(rows) else rows
        for name, rows in targets.items()
    }


def check(*splits: Split) -> None:
    """Raise ValueError unless the splits have samples, as many of each array, and all of the same names and shapes."""
    every = [_columns(one) for one in splits]
    for one, rows in zip(splits, every, strict=True):
        if not one.inputs:
            raise ValueError("a split has no inputs")
        for name, found in rows.items():
            if not isinstance(getattr(found, "dtype", None), np.dtype):
                raise ValueError(f"the {name} is a {type(found).__name__}, not an array [samples, …]")
            # NumPy calls the types of ml_dtypes, as bfloat16, kind V too.
            if found.dtype.kind not in "biufV" or found.dtype.type is np.void or not found.shape:
                raise ValueError(f"the {name} is {found.dtype} {list(found.shape)}, not numbers [samples, …]")
        counts = {name: len(found) for name, found in rows.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"the arrays of a split differ in their samples: {_list(counts)}")
        if not len(one):
            raise ValueError("a split has no samples")
    kinds = [{name: list(found.shape[1:]) for name, found in rows.items()} for rows in every]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"the splits differ in names or shapes: {'; '.join(map(_list, kinds))}")


def _columns(one: Split) -> dict[str, Rows]:
    """Return inputs and targets by a name for messages."""
    if not isinstance(one, Split) or not isinstance(one.inputs, Mapping) or not isinstance(one.targets, Mapping):
        raise ValueError('a split is no Split({"input": array}, {"output": array})')
    return {
        **{f"input {name}".strip(): rows for name, rows in one.inputs.items()},
        **{f"target {name}".strip(): rows for name, rows in one.targets.items()},
    }


def _list(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _hint(message: str) -> str:
    if "object" in message or "ragged" in message:
        return PAD
    return "Every array holds numbers, [samples, …], as many samples as the others of its split (docs/own-models.md)."


def _divided(every: Split, parts: int) -> list[Split]:
    """Return a tenth of the samples, for each of `parts`, in random order, and then the others, in their own.

    In a random but fixed order, sorted by class, every tenth is held out: so the shares are those of each class, too.
    """
    count = len(every)
    if count <= parts:
        raise ValueError(
            f"{count} samples are too few: {parts} of them would be for {'validation and ' * (parts > 1)}test"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    place = np.empty(count, np.intp)
    place[np.argsort(_classes(every)[order], kind="stable")] = np.arange(count)
    turn = place % HELD_OUT
    firsts = [min(part * HELD_OUT // 2, count - parts + part) for part in range(parts)]
    chosen = [turn == first for first in firsts]
    # A disk reads much faster in order.
    return [*(every.take(order[which]) for which in chosen), every.take(np.sort(order[~np.any(chosen, axis=0)]))]


def _classes(every: Split) -> NDArray[np.int64]:
    for rows in every.targets.values():
        if is_label(rows):
            return np.asarray(rows[:]).astype(np.int64)
    return np.zeros(len(every), np.int64)
