"""A data set in three disjoint splits of named inputs and targets, and how it is recognised again."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.dataset import DatasetRecord, PerSplit, TargetRecord
from pipeline.artifacts.tensor import TensorRecord
from pipeline.tensors import Array, Feed
from pipeline.tensors import Rows as Rows

SPLIT_SEED = 0
"""Fixed, and not the training seed: the test set must not move when a user tries another seed."""

DIGEST_BATCH = 4096
"""Samples read at a time where all are looked at."""

Which = slice | NDArray[np.integer[Any]]

THE_ONLY = ""
"""The name of an input or target whose source gives it none: it fits a model that has one, whatever it is called."""


@dataclass(frozen=True)
class Taken:
    """Some samples of others, by their indices, read when asked for."""

    rows: Rows
    indices: NDArray[np.integer[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of samples, then the shape of one."""
        return (len(self.indices), *self.rows.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of an element."""
        return self.rows.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, which: Which) -> Array:
        return self.rows[self.indices[which]]


@dataclass(frozen=True)
class Split:
    """Samples: what goes into the model, and what should come out, by name.

    `inputs` and `targets` hold [samples, …] of each; `targets` is empty where there are no labels. Nothing is read
    before it is asked for, so that data may be larger than memory.
    """

    inputs: Mapping[str, Rows]
    targets: Mapping[str, Rows] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def feed(self, which: Which = slice(None)) -> Feed:
        """Return the inputs of some samples, contiguous in memory."""
        return {name: np.ascontiguousarray(rows[which]) for name, rows in self.inputs.items()}

    def labels(self, which: Which = slice(None)) -> Feed:
        """Return the targets of some samples, in memory."""
        return {name: np.asarray(rows[which]) for name, rows in self.targets.items()}

    def slices(self, size: int) -> Iterator[slice]:
        """Yield the slices of all samples, `size` at a time; the last may be smaller."""
        return (slice(start, min(start + size, len(self))) for start in range(0, len(self), size))

    def take(self, which: Which) -> "Split":
        """Return some of the samples, without reading them."""
        indices = np.arange(len(self))[which]
        return Split(
            {name: Taken(rows, indices) for name, rows in self.inputs.items()},
            {name: Taken(rows, indices) for name, rows in self.targets.items()},
        )


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits. `substitute` says that MNIST was wanted and something else was taken.

    `class_names` are those of each target that has any.

    Example, as a function named by `data.source` returns it:

        Dataset(
            name="flowers",
            origin="our greenhouse, 2026",
            train=Split({"image": train_images}, {"species": train_labels}),
            validation=Split({"image": validation_images}, {"species": validation_labels}),
            test=Split({"image": test_images}, {"species": test_labels}),
            class_names={"species": ("rose", "tulip")},
        )
    """

    name: str
    origin: str
    train: Split
    validation: Split
    test: Split
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    substitute: str = ""

    def record(self) -> DatasetRecord:
        """Return what later stages and readers need to know, and to recognise this very data again."""
        return DatasetRecord(
            name=self.name,
            origin=self.origin,
            substitute=self.substitute,
            samples=PerSplit(train=len(self.train), validation=len(self.validation), test=len(self.test)),
            inputs=tuple(_tensor(name, rows) for name, rows in self.test.inputs.items()),
            targets=tuple(
                TargetRecord(
                    **dict(_tensor(name, rows)),
                    class_names=self.class_names.get(name, ()),
                    largest=_largest(self, name),
                )
                for name, rows in self.test.targets.items()
            ),
            sha256=PerSplit(train=digest(self.train), validation=digest(self.validation), test=digest(self.test)),
        )


def _tensor(name: str, rows: Rows) -> TensorRecord:
    return TensorRecord(name=name, shape=(None, *rows.shape[1:]), dtype=rows.dtype.name)


def _largest(dataset: Dataset, name: str) -> int | None:
    """Return the largest number that an integer target has anywhere; None for other types."""
    parts = [split.targets[name] for split in (dataset.train, dataset.validation, dataset.test) if len(split)]
    if parts[0].dtype.kind not in "iu":
        return None
    return max(int(np.max(rows[start : start + DIGEST_BATCH])) for rows in parts for start in _starts(rows))


def _starts(rows: Rows) -> range:
    return range(0, len(rows), DIGEST_BATCH)


def digest(split: Split) -> str:
    """Return a SHA-256 over a split's names, shapes, types, inputs and targets."""
    running = hashlib.sha256()
    for kind in (split.inputs, split.targets):
        for name, rows in kind.items():
            running.update(repr((name, rows.shape, rows.dtype.name)).encode())
            for start in _starts(rows):
                running.update(np.ascontiguousarray(rows[start : start + DIGEST_BATCH]).data)
    return running.hexdigest()


def three_splits(
    name: str,
    origin: str,
    train: Split,
    test: Split,
    *,
    validation: int,
    class_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Dataset:
    """Take a fixed random part of the training samples, `validation` of them, as the validation split."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train))
    held, kept = order[:validation], order[validation:]
    return Dataset(
        name, origin, train=train.take(kept), validation=train.take(held), test=test, class_names=class_names or {}
    )
