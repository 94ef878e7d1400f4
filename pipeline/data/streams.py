"""A `tf.data.Dataset` or a `keras.utils.PyDataset`: read once, a batch at a time, into temporary files."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from pipeline import user_code
from pipeline.data.splits import THE_ONLY, Split
from pipeline.data.spool import Column

MOST_SAMPLES = 10_000_000
"""A stream that does not tell its length is taken for an endless one after so many."""

YIELD = "a batch is inputs, or (inputs, targets): arrays, or dictionaries of arrays by name"


def is_stream(given: Any) -> bool:
    """Tell whether this is one of the two; neither library is imported for it."""
    tensorflow, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    return (tensorflow is not None and isinstance(given, tensorflow.data.Dataset)) or (
        keras is not None and isinstance(given, keras.utils.PyDataset)
    )


def stored(stream: Any, source: str = "data.source:") -> Split:
    """Return the samples of a finite stream of batches, mapped from temporary files; `source` is how an error begins.

    Raises:
        ValueError: it is endless, its batches are not alike, or they are not what Keras takes.
        DataError: reading it raises, or the disk is too small.
    """
    columns: dict[tuple[str, str], Column] = {}
    with ExitStack() as files:
        for number, batch in enumerate(_batches(stream, source)):
            arrays = _columns(batch)
            if not number:
                columns = {key: Column(files.enter_context(tempfile.TemporaryFile())) for key in arrays}
            if arrays.keys() != columns.keys():
                raise ValueError(f"batch {number} has {_list(arrays)}, and those before it {_list(columns)}")
            for key, array in arrays.items():
                columns[key].add(array)
                if columns[key].samples > MOST_SAMPLES:
                    raise ValueError(f"more than {MOST_SAMPLES:,} samples: is it endless? Limit it with .take(batches)")
        if not columns:
            raise ValueError("it yields no batch")
        rows = {key: column.rows() for key, column in columns.items()}
    inputs, targets = ({name: rows[kind, name] for kind, name in rows if kind == wanted} for wanted in "xy")
    return Split(inputs, targets)


def _batches(stream: Any, source: str) -> Iterator[Any]:
    if hasattr(stream, "cardinality"):
        if int(stream.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
            raise ValueError("the tf.data.Dataset is endless: limit it with .take(batches), or leave out .repeat()")
        found = stream.as_numpy_iterator()
    elif stream.num_batches is None:
        raise ValueError("the PyDataset is endless: its num_batches is None")
    else:
        found = (stream[index] for index in range(stream.num_batches))
    end = object()
    while (batch := user_code.call(next, found, end, said=f"{source} reading it raised")) is not end:
        yield batch


def _columns(batch: Any) -> dict[tuple[str, str], Any]:
    """Return the arrays of a batch by ("x" or "y", name)."""
    if isinstance(batch, tuple | list):
        if len(batch) == 3 and batch[2] is not None:
            raise ValueError(f"it yields sample weights, which nothing here uses: {YIELD}")
        if len(batch) not in (1, 2, 3):
            raise ValueError(f"it yields {len(batch)} things: {YIELD}")
        inputs, targets = (*batch, None)[:2]
    else:
        inputs, targets = batch, None
    found = {}
    for kind, given in (("x", inputs), ("y", targets)):
        if given is not None:
            for name, value in (given if isinstance(given, Mapping) else {THE_ONLY: given}).items():
                found[kind, str(name)] = _array(value, f"{kind}/{name}".rstrip("/"))
    counts = {len(array) for array in found.values()}
    if len(counts) != 1:
        raise ValueError(f"the arrays of one batch differ in their samples: {_list(found)}")
    return found


def _array(value: Any, what: str) -> Any:
    if isinstance(value, tuple | list):
        raise ValueError(f"{what} is a {type(value).__name__}: {YIELD}")
    array = np.asarray(value)
    if array.dtype.kind not in "biufV":
        raise ValueError(f"{what} is {array.dtype}, not numbers: ragged tensors need padding, texts a numbering")
    if not array.ndim:
        raise ValueError(f"{what} is a single number: batch the data set, as with .batch(32)")
    return array


def _list(found: Mapping[tuple[str, str], Any]) -> str:
    return ", ".join(
        f"{kind}/{name}".rstrip("/") + str(list(getattr(one, "shape", ""))) for (kind, name), one in found.items()
    )
