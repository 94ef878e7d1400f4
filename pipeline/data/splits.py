"""A data set in three disjoint splits of named inputs and targets, and how it is recognised again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from pipeline.artifacts.dataset import DatasetRecord, PerSplit, TargetRecord
from pipeline.artifacts.tensor import TensorRecord
from pipeline.data import inspection
from pipeline.data.inspection import Seen
from pipeline.data.rows import Taken, Which, largest
from pipeline.tensors import Feed, Rows

SPLIT_SEED = 0
"""Fixed, and not the training seed: the test set must not move when a user tries another seed."""

THE_ONLY = ""
"""The name of an input or target whose source gives it none: it fits a model that has one, whatever it is called."""


@dataclass(frozen=True)
class Split:
    """Samples: what goes into the model, and what should come out, by name.

    `inputs` and `targets` hold [samples, …] of each; `targets` is empty where there are no labels. Nothing is read
    before it is asked for, so that data may be larger than memory.
    """

    inputs: Mapping[str, Rows]
    targets: Mapping[str, Rows] = field(default_factory=dict)

    def __len__(self) -> int:
        return next((len(rows) for rows in self.inputs.values()), 0)

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
class RandomInputs:
    """Between what random inputs are drawn: integers from 0 to below `below`; `axis` is the size of a dynamic axis."""

    below: int
    axis: int


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits. `substitute` says that MNIST was wanted and something else was taken.

    `class_names` are those of each target that has any. `random` stands for no data: inputs are drawn when the data set
    is bound to a model, and nothing may be calibrated on them or be called accurate.

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
    random: RandomInputs | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name: train, validation, test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def each(self, change: Callable[[str, Split], Split]) -> "Dataset":
        """Return the data set with what a function makes of each split and its name."""
        made = {name: change(name, split) for name, split in self.splits.items()}
        return replace(self, train=made["train"], validation=made["validation"], test=made["test"])

    @cached_property
    def seen(self) -> dict[str, Seen]:
        """What one pass over all samples finds, by split: their digests.

        Raises:
            DataError: a number is NaN or Inf.
        """
        return {
            name: inspection.look(split.inputs, split.targets, f"{self.name}, {name} split")
            for name, split in self.splits.items()
        }

    @cached_property
    def targets(self) -> tuple[TargetRecord, ...]:
        """What is known of each target; only the targets are read for it."""
        return tuple(
            TargetRecord(
                **dict(_tensor(name, rows)),
                class_names=self.class_names.get(name, ()),
                largest=largest(split.targets[name] for split in self.splits.values())
                if rows.dtype.kind in "iu"
                else None,
            )
            for name, rows in self.test.targets.items()
        )

    @property
    def classes(self) -> int:
        """How many classes the first target has, for a model that is made to fit; 0: it is no number of a class."""
        for first in self.targets[:1]:
            return len(first.class_names) or (0 if first.largest is None else max(first.largest + 1, 0))
        return 0

    def record(self) -> DatasetRecord:
        """Return what later stages and readers need to know, to recognise the same data again too. Errors as `seen`."""
        return DatasetRecord(
            name=self.name,
            origin=self.origin,
            substitute=self.substitute,
            random=self.random is not None,
            samples=PerSplit(train=len(self.train), validation=len(self.validation), test=len(self.test)),
            inputs=tuple(_tensor(name, rows) for name, rows in self.test.inputs.items()),
            targets=self.targets,
            sha256=PerSplit(**{name: seen.sha256 for name, seen in self.seen.items()}),
        )


def _tensor(name: str, rows: Rows) -> TensorRecord:
    return TensorRecord(name=name, shape=(None, *rows.shape[1:]), dtype=rows.dtype.name)


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
