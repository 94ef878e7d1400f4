"""Running a graph over a whole split on the CPU, in an order and arithmetic that accuracy can be judged by."""

import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from pipeline import backends
from pipeline.artifacts.runner import RunnerRecord
from pipeline.backends import LoadOptions, Session
from pipeline.data import Split
from pipeline.errors import DataError
from pipeline.graphs import files
from pipeline.precisions import Precision
from pipeline.tensors import Array, Feed, Outputs, fixed_batch

ANY_BATCH = (1, sys.maxsize)
IN_MEMORY_BYTES = 1 << 28
"""Outputs larger than this are kept in a file."""


def limits(record: RunnerRecord, session: Session | None = None) -> tuple[int, int]:
    """Return the smallest and the largest batch that a runner takes; a session tells it of a model with a fixed one."""
    if session is not None and (fixed := fixed_batch(session.inputs)):
        return fixed, fixed
    return (record.batches.smallest, record.batches.largest) if record.batches else ANY_BATCH


@contextmanager
def loaded(typed: onnx.ModelProto, precision: Precision) -> Iterator[Session]:
    """Load a typed graph in ONNX Runtime on the CPU, as it is, or emulated where a CPU lacks the arithmetic."""
    runnable = typed if precision.emulate is None else precision.emulate(typed)
    with files.loadable(runnable) as model:
        del runnable  # as large as its weights
        with backends.get("onnxruntime").load(model, LoadOptions("cpu", exact=True)) as session:
            yield session


def infer(session: Session, split: Split, batch: int, limits: tuple[int, int] = ANY_BATCH) -> Outputs:
    """Return the outputs [samples, …] of all samples by name, inferred in batches within the limits.

    A model whose batch is fixed is given batches of that size.

    Raises:
        DataError: there is no sample, or an output does not have one row for each.
    """
    fixed = fixed_batch(session.inputs)
    smallest, largest = (fixed, fixed) if fixed else limits
    batch = min(max(batch, smallest), largest)
    found: Outputs = {}
    for which in split.slices(batch):
        count = which.stop - which.start
        # The last batch may be too small for an engine: it is filled with its own samples, over again.
        results = session.run(filled(split.feed(which), smallest))
        for name, rows in results.items():
            if name not in found:
                if not rows.ndim or len(rows) != max(count, smallest):
                    raise DataError(
                        f"the model's output {name} has the shape {list(rows.shape)} for a batch of "
                        f"{max(count, smallest)}",
                        "Every output must have a row for each sample.",
                    )
                found[name] = _room((len(split), *rows.shape[1:]), rows.dtype)
            found[name][which] = rows[:count]  # copied: the session writes there again
    if not found:
        raise DataError("there are no samples to infer")
    return found


def filled(feed: Feed, size: int) -> Feed:
    """Return the samples, over again where they are fewer than `size`."""
    return {
        name: rows if len(rows) >= size else np.resize(rows, (size, *rows.shape[1:])) for name, rows in feed.items()
    }


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array to fill, in a file where it is large."""
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY_BYTES:
        return np.empty(shape, dtype)
    return np.memmap(tempfile.TemporaryFile(), dtype, shape=shape)


def outputs(typed: onnx.ModelProto, precision: Precision, split: Split, batch: int) -> Outputs:
    """Return the outputs of a typed graph, [samples, …] by name."""
    with loaded(typed, precision) as session:
        return infer(session, split, batch)
