"""Feeding a split to Keras: as arrays where they are small, else a batch at a time."""

import math
from typing import Any

import keras
import numpy as np

from pipeline.data import Split
from pipeline.models.calling import Caller

IN_MEMORY_BYTES = 1 << 30
"""A split up to this size is handed to Keras as arrays."""


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """A split's batches, read when Keras asks for them; in another order in every epoch where `seed` is given."""

    def __init__(self, split: Split, how: Caller, batch: int, seed: int | None = None) -> None:
        super().__init__()
        self._split, self._how, self._batch = split, how, batch
        self._random = None if seed is None else np.random.default_rng(seed)
        self._order = np.arange(len(split))
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._split) / self._batch)

    def __getitem__(self, index: int) -> Any:
        which = np.sort(self._order[index * self._batch : (index + 1) * self._batch])
        return self._how.arguments(self._split.feed(which)), self._how.expected(self._split.labels(which))

    def on_epoch_end(self) -> None:
        if self._random is not None:
            self._random.shuffle(self._order)


def fit_arguments(split: Split, how: Caller, batch: int, seed: int) -> dict[str, Any]:
    """Return what `model.fit` is given to train on a split."""
    if size(split) <= IN_MEMORY_BYTES:
        return {"x": how.arguments(split.feed()), "y": how.expected(split.labels()), "batch_size": batch}
    return {"x": Batches(split, how, batch, seed)}


def validation_data(split: Split, how: Caller, batch: int) -> Any:
    """Return what `model.fit` is given to validate on."""
    if size(split) <= IN_MEMORY_BYTES:
        return how.arguments(split.feed()), how.expected(split.labels())
    return Batches(split, how, batch)


def size(split: Split) -> int:
    """Return the bytes of a split's inputs and targets."""
    every = (*split.inputs.values(), *split.targets.values())
    return sum(math.prod(rows.shape) * rows.dtype.itemsize for rows in every)
