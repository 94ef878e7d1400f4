"""Inputs without data (`data.source = "random"`): numbers of the model's types, for export, build and timing."""

import numpy as np

from pipeline.data.splits import SPLIT_SEED, Dataset, RandomInputs, Split
from pipeline.errors import DataError
from pipeline.tensors import Array, Signature, TensorSpec

SOURCE = "random"
SAMPLES = 64
"""In each split."""


def load(limits: RandomInputs) -> Dataset:
    """Return a data set without inputs: they are drawn when a model says which it takes."""
    return Dataset(SOURCE, "random numbers, no data", Split({}), Split({}), Split({}), random=limits)


def draw(dataset: Dataset, signature: Signature) -> Dataset:
    """Return the data set with inputs for a model, the same at every call, and without targets."""
    assert dataset.random is not None
    generator = np.random.default_rng(SPLIT_SEED)
    limits = dataset.random
    return dataset.each(lambda *_: Split({spec.name: _numbers(spec, limits, generator) for spec in signature.inputs}))


def _numbers(spec: TensorSpec, limits: RandomInputs, generator: np.random.Generator) -> Array:
    """Return uint8 from 0 to 255, other integers below the configured limit, floats from 0 to 1, for an input."""
    shape = (SAMPLES, *(limits.axis if size is None else size for size in spec.shape[1:]))
    if spec.dtype.kind in "iu":
        return generator.integers(0, 256 if spec.dtype == np.uint8 else limits.below, shape).astype(spec.dtype)
    if spec.dtype.kind in "OSU":
        raise DataError(f"the model's input {spec} takes text, which cannot be drawn", "Give data with data.source.")
    if spec.dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(np.bool_)
    return generator.random(shape, np.float32).astype(spec.dtype)
