"""A data set in three disjoint splits, and how it is recognised again."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.dataset import DatasetRecord, PerSplit

SPLIT_SEED = 0
"""Fixed, and not the training seed: the test set must not move when a user tries another seed."""


@dataclass(frozen=True)
class Split:
    """Images, uint8 [samples, height, width, channels], and their labels, int64 [samples]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits. `substitute` says that MNIST was wanted and something else was taken.

    Example, as a function named by `data.source` returns it:

        Dataset(
            name="flowers",
            origin="our greenhouse, 2026",
            train=Split(train_images, train_labels),
            validation=Split(validation_images, validation_labels),
            test=Split(test_images, test_labels),
            class_names=("rose", "tulip"),
        )
    """

    name: str
    origin: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    substitute: str = ""

    def record(self) -> DatasetRecord:
        """Return what later stages and readers need to know, and to recognise this very data again."""
        return DatasetRecord(
            name=self.name,
            origin=self.origin,
            substitute=self.substitute,
            samples=PerSplit(train=len(self.train), validation=len(self.validation), test=len(self.test)),
            image_shape=self.test.images.shape[1:],
            class_names=self.class_names,
            sha256=PerSplit(train=digest(self.train), validation=digest(self.validation), test=digest(self.test)),
        )


def digest(split: Split) -> str:
    """Return a SHA-256 over a split's shape, images and labels."""
    running = hashlib.sha256(repr(split.images.shape).encode())
    running.update(np.ascontiguousarray(split.images).tobytes())
    running.update(np.ascontiguousarray(split.labels).tobytes())
    return running.hexdigest()


def three_splits(
    name: str, origin: str, train: Split, test: Split, *, validation: int, class_names: tuple[str, ...]
) -> Dataset:
    """Take a fixed random part of the training samples, `validation` of them, as the validation split."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train))
    held, kept = order[:validation], order[validation:]
    return Dataset(
        name,
        origin,
        train=Split(train.images[kept], train.labels[kept]),
        validation=Split(train.images[held], train.labels[held]),
        test=test,
        class_names=class_names,
    )
