"""A data set from a function of the user's own (`data.source`)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline import user_code
from pipeline.data.splits import THE_ONLY, Dataset, Rows, Split, three_splits
from pipeline.errors import DataError, PipelineError

RETURN = (
    "Return ((train_inputs, train_targets), (test_inputs, test_targets)), arrays or dictionaries of arrays by name; "
    "or a pipeline.data.Dataset."
)


def load(source: str) -> Dataset:
    """Call the user's function: it returns a Dataset, or ((train inputs, targets), (test inputs, targets)) as Keras.

    Raises:
        DataError: there is no such function, or what it returns cannot be used, and why.
    """
    function = user_code.import_function(source, "data.source")
    try:
        result = function()
    except PipelineError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise DataError(f"data.source {source} raised {type(error).__name__}: {error}", RETURN) from error
    try:
        if isinstance(result, Dataset):
            check(result.train, result.validation, result.test)
            return replace(result, name=source)
        (train_inputs, train_targets), (test_inputs, test_targets) = result
        train, test = split(train_inputs, train_targets), split(test_inputs, test_targets)
        check(train, test)
        if len(train) < 2:
            raise ValueError("1 training sample is too few: one is for validation")
    except (TypeError, ValueError) as error:
        raise DataError(f"data.source {source}: {error}", RETURN) from error
    return three_splits(source, "data.source", train, test, validation=max(1, len(train) // 10))


def split(inputs: Any, targets: Any) -> Split:
    """Return the samples of arrays, or of dictionaries of arrays; `targets` may be None.

    Raises:
        ValueError: an array has no samples, or their numbers differ.
    """
    return Split(_named(inputs), {} if targets is None else _targets(_named(targets)))


def _named(given: Any) -> dict[str, Rows]:
    if isinstance(given, Mapping):
        return {str(name): np.asarray(value) for name, value in given.items()}
    return {THE_ONLY: np.asarray(given)}


def _targets(found: dict[str, Rows]) -> dict[str, Rows]:
    """Return labels as numbers alone: Keras's own data sets have them as [samples, 1]."""
    return {
        name: np.asarray(rows).reshape(len(rows)).astype(np.int64)
        if rows.dtype.kind in "iu" and rows.shape[1:] in ((), (1,))
        else rows
        for name, rows in found.items()
    }


def check(*splits: Split) -> None:
    """Raise ValueError unless the splits have samples, as many of each array, and all of the same names and shapes."""
    for one in splits:
        rows = {**one.inputs, **{f"target {name}": found for name, found in one.targets.items()}}
        for name, found in rows.items():
            if found.dtype.kind not in "biufV" or not found.shape:
                raise ValueError(f"{name or 'an array'} is {found.dtype} {list(found.shape)}, not numbers [samples, …]")
        counts = {name: len(found) for name, found in rows.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"arrays of one split differ in their samples: {counts}")
        if not len(one):
            raise ValueError("a split has no samples")
    kinds = [
        {name: list(found.shape[1:]) for name, found in (*one.inputs.items(), *one.targets.items())} for one in splits
    ]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"the splits differ in names or shapes: {', '.join(map(str, kinds))}")
