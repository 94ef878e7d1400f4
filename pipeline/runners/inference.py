"""Running a graph over a whole split on the CPU, in an order and arithmetic that accuracy can be judged by."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx

from pipeline import backends
from pipeline.artifacts.runner import RunnerRecord
from pipeline.backends import LoadOptions, Session
from pipeline.errors import DataError
from pipeline.precisions import Precision
from pipeline.tensors import Array

ANY_BATCH = (1, sys.maxsize)


def limits(record: RunnerRecord) -> tuple[int, int]:
    """Return the smallest and the largest batch that a runner takes."""
    return (record.batches.smallest, record.batches.largest) if record.batches else ANY_BATCH


@contextmanager
def loaded(typed: onnx.ModelProto, precision: Precision) -> Iterator[Session]:
    """Load a typed graph in ONNX Runtime on the CPU, as it is, or emulated where a CPU lacks the arithmetic."""
    runnable = typed if precision.emulate is None else precision.emulate(typed)
    # Protobuf's limit: a graph of 2 GB or more can be neither serialized nor saved as one file.
    content = runnable.SerializeToString()
    with backends.get("onnxruntime").load(content, LoadOptions("cpu", exact=True)) as session:
        yield session


def infer(session: Session, images: Array, batch: int, limits: tuple[int, int] = ANY_BATCH) -> Array:
    """Return the class scores [samples, classes] of all images, inferred in batches within the limits.

    Raises:
        DataError: there is no image.
    """
    name = session.inputs[0].name
    smallest, largest = limits
    batch = min(max(batch, smallest), largest)
    found: Array | None = None
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        # The last batch may be too small for an engine: it is filled with its own images, over again.
        filled = chunk if len(chunk) >= smallest else np.resize(chunk, (smallest, *chunk.shape[1:]))
        scores = next(iter(session.run({name: filled}).values()))[: len(chunk)]
        if found is None:
            found = np.empty((len(images), *scores.shape[1:]), scores.dtype)
        found[start : start + len(chunk)] = scores  # copied: the session writes there again
    if found is None:
        raise DataError("there are no images to infer")
    return found


def scores(typed: onnx.ModelProto, precision: Precision, images: Array, batch: int) -> Array:
    """Return the class scores [samples, classes] of a typed graph."""
    with loaded(typed, precision) as session:
        return infer(session, images, batch)
