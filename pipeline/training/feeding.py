"""Feeding a split to Keras: the batches of an epoch, in an order that its seed and its number fix.

So a training that was interrupted goes on with the very batches that were still to come.
"""

import math
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import environment, hosts
from pipeline.data import Split
from pipeline.models.calling import Caller

IN_MEMORY_BYTES = 1 << 30
"""A split up to this size is read once and kept as it is; a larger one is read a batch at a time."""

AHEAD = 8
"""Batches made while the device works on others."""


class Feeder:
    """The training samples as Keras takes them.

    `epoch` is the epoch whose batches are made next; `waited` is how many seconds the training waited for a batch since
    it was last set to 0, where `timed`; `error` is what reading the data raised, which TensorFlow hands on without its
    kind. With a `device`, as TensorFlow calls it, batches are brought there ahead of time; what waits for one is then
    what brings it, which is soon as late as the device where batches are made too slowly.
    """

    def __init__(
        self,
        split: Split,
        how: Caller,
        batch: int,
        steps: int,
        seed: int,
        *,
        timed: bool = True,
        device: str | None = None,
    ) -> None:
        self.in_memory = size(split) <= IN_MEMORY_BYTES
        self.epoch, self.timed = 0, timed
        self.waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.error: Exception | None = None
        self._split = Split(split.feed(), split.labels()) if self.in_memory else split
        self._how, self._batch, self._steps, self._seed, self._device = how, batch, steps, seed, device
        self._world = hosts.current()
        self._order = lru_cache(2)(self._shuffled)
        self._inputs = [spec.name for spec in how.inputs]
        self._targets = [spec.name for spec in how.outputs]
        rows = [*(self._split.inputs[name] for name in self._inputs), *(split.targets[name] for name in self._targets)]
        self._specs = [tf.TensorSpec((None, *one.shape[1:]), tf.as_dtype(one.dtype)) for one in rows]

    def batches(self, first: int = 0) -> tf.data.Dataset:
        """Return the batches of an epoch from step `first` on: of the one that `epoch` names when iteration begins."""
        count = self._steps - first
        made = tf.data.Dataset.range(first, self._steps).map(
            self._load, num_parallel_calls=1 if self.in_memory else environment.cpu_count(), deterministic=True
        )
        found = made.prefetch(AHEAD)
        if self.timed:
            # A zip asks its parts in turn: the two times lie around the wait for the batch.
            now = tf.data.Dataset.range(count).map(lambda _: tf.timestamp())
            found = tf.data.Dataset.zip(now, found, now).map(self._unstamped)
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False  # it would fetch the times ahead, too
        options.experimental_optimization.inject_prefetch = False
        options.autotune.enabled = False
        policy = tf.data.experimental.AutoShardPolicy
        options.experimental_distribute.auto_shard_policy = policy.OFF  # each batch is shared out, not the files
        found = found.with_options(options)
        return found if self._device is None else found.apply(tf.data.experimental.prefetch_to_device(self._device, 2))

    def sample(self) -> Any:
        """Return a batch as Keras takes it: its inputs and targets."""
        return next(iter(self.batches()))

    def _load(self, step: tf.Tensor) -> Any:
        arrays = tf.numpy_function(self._read, [step], [spec.dtype for spec in self._specs], stateful=True)
        for array, spec in zip(arrays, self._specs, strict=True):
            array.set_shape(spec.shape)
        taken, wanted = arrays[: len(self._inputs)], arrays[len(self._inputs) :]
        targets = dict(zip(self._targets, wanted, strict=True))
        return self._how.pack(taken), self._how.expected(targets)

    def _read(self, step: np.int64) -> list[Any]:
        try:
            which = np.sort(self._order(self.epoch)[step * self._batch : (step + 1) * self._batch])
            if self._world is not None:  # each process reads its own share of a batch
                which = np.array_split(which, self._world.size)[self._world.rank]
            feed, labels = self._split.feed(which), self._split.labels(which)
        except Exception as error:
            self.error = error
            raise
        return [*(feed[name] for name in self._inputs), *(labels[name] for name in self._targets)]

    def _shuffled(self, epoch: int) -> NDArray[np.intp]:
        return np.random.default_rng((self._seed, epoch)).permutation(len(self._split))

    def _unstamped(self, before: tf.Tensor, batch: Any, after: tf.Tensor) -> Any:
        self.waited.assign_add(after - before)
        return batch


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """A split's batches in their order, read when Keras asks for them."""

    def __init__(self, split: Split, how: Caller, batch: int) -> None:
        super().__init__()
        self._split, self._how, self._batch = split, how, batch

    def __len__(self) -> int:
        return math.ceil(len(self._split) / self._batch)

    def __getitem__(self, index: int) -> Any:
        which = slice(index * self._batch, (index + 1) * self._batch)
        return self._how.arguments(self._split.feed(which)), self._how.expected(self._split.labels(which))


def validation_data(split: Split, how: Caller, batch: int) -> Any:
    """Return what `model.fit` is given to validate on."""
    if size(split) <= IN_MEMORY_BYTES:
        return how.arguments(split.feed()), how.expected(split.labels())
    return Batches(split, how, batch)


def size(split: Split) -> int:
    """Return the bytes of a split's inputs and targets."""
    every = (*split.inputs.values(), *split.targets.values())
    return sum(math.prod(rows.shape) * rows.dtype.itemsize for rows in every)
