"""Datasets in three disjoint splits: MNIST, the digits embedded in scikit-learn, the user's own."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import config, digests, user_code
from pipeline.data import mnist
from pipeline.errors import DataError

DIR_VARIABLE = "PIPELINE_DATA_DIR"
MNIST_VALIDATION = 5_000

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
    """Three disjoint splits. `substitute` says that MNIST was wanted and something else was taken."""

    name: str
    origin: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    substitute: str = ""

    def record(self) -> dict[str, Any]:
        """Return what later stages and readers need to know, and to recognise this very data again."""
        return {
            "name": self.name,
            "origin": self.origin,
            "substitute": self.substitute,
            "samples": {split: len(getattr(self, split)) for split in ("train", "validation", "test")},
            "image_shape": list(self.test.images.shape[1:]),
            "class_names": list(self.class_names),
            "sha256": {split: digest(getattr(self, split)) for split in ("train", "validation", "test")},
        }


def digest(split: Split) -> str:
    """Return a SHA-256 over a split's shape, images and labels."""
    running = hashlib.sha256(repr(split.images.shape).encode())
    running.update(np.ascontiguousarray(split.images).tobytes())
    running.update(np.ascontiguousarray(split.labels).tobytes())
    return running.hexdigest()


def load(options: config.Data, *, download: bool = True) -> Dataset:
    """Load the configured dataset.

    Raises:
        DataError: it cannot be had or cannot be used, and why.
    """
    if options.source:
        return _own(options.source)
    if options.name == "digits":
        return _digits()
    try:
        return _mnist(options, download=download)
    except mnist.NotAtHandError as error:
        if options.name == "mnist":
            raise DataError(
                f"MNIST is not at hand: {error.message}",
                f"Set data.dir or {DIR_VARIABLE} to a folder with its four IDX files, or data.name=digits.",
            ) from error
        return _digits(substitute=f"MNIST could not be had: {error.message}")


def reload(record: dict[str, Any], options: config.Data) -> Dataset:
    """Load again the very data that a model was trained on, whatever `data.name` says now.

    Raises:
        DataError: they cannot be had, or are not the same.
    """
    if record["name"] in ("mnist", "digits"):
        dataset = load(options.model_copy(update={"name": record["name"], "source": ""}))
    else:
        dataset = _own(record["name"])
    for split, expected in record["sha256"].items():
        if digest(getattr(dataset, split)) != expected:
            raise DataError(
                f"the {split} split of {record['name']} from {dataset.origin} is not the one the model was trained on",
                "Run `make train` with this data, or point data.dir to the data of the training.",
            )
    return dataset


def identify(options: config.Data) -> str:
    """Tell cheaply, without a download, which data `load` would read: for deciding whether training is up to date."""
    if options.source:
        return f"{options.source} {user_code.source_digest(options.source)}"
    if options.name != "digits":
        if files := mnist.files(_folder(options)):
            return "mnist " + " ".join(digests.of_file(path)[:16] for path in files)
        if options.name == "mnist":
            return "mnist, not at hand"
    return "digits"


def _mnist(options: config.Data, *, download: bool) -> Dataset:
    folder = _folder(options)
    train_images, train_labels, test_images, test_labels = mnist.read(
        folder, download=download, timeout_s=options.download_timeout_s
    )
    if len(train_labels) <= MNIST_VALIDATION or not len(test_labels):
        raise DataError(
            f"{folder or mnist.keras_cache()}: {len(train_labels)} training and {len(test_labels)} test images are too "
            f"few: {MNIST_VALIDATION} of the first are for validation",
            "Use all of MNIST, or data.source=package.module:function.",
        )
    return _three_splits(
        "mnist",
        "IDX files" if folder else "Keras download",
        Split(train_images[..., None], train_labels.astype(np.int64)),
        Split(test_images[..., None], test_labels.astype(np.int64)),
        validation=MNIST_VALIDATION,
        class_names=tuple("0123456789"),
    )


def _folder(options: config.Data) -> Path | None:
    if options.dir is not None:
        return options.dir
    return Path(os.environ[DIR_VARIABLE]) if os.environ.get(DIR_VARIABLE) else None


def _three_splits(
    name: str, origin: str, train: Split, test: Split, *, validation: int, class_names: tuple[str, ...]
) -> Dataset:
    """Take a fixed random part of the training samples as the validation split."""
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


def _digits(substitute: str = "") -> Dataset:
    """Return scikit-learn's 1,797 digits (UCI Optical Recognition of Handwritten Digits), enlarged to 28×28.

    8×8 pixels of 0 to 16 become 24×24 of 0 to 255 in a border of 2, so that the network is the article's, unchanged.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    small = np.rint(source.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8]
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))[..., None]
    labels = source.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    test, rest = order[:360], order[360:]
    dataset = _three_splits(
        "digits",
        "scikit-learn's digits, 8×8 enlarged to 28×28",
        Split(images[rest], labels[rest]),
        Split(images[test], labels[test]),
        validation=180,
        class_names=tuple("0123456789"),
    )
    return Dataset(**{**vars(dataset), "substitute": substitute})


def _own(source: str) -> Dataset:
    """Call the user's function: it returns a Dataset, or ((train images, labels), (test images, labels)) as Keras."""
    result = user_code.import_function(source, "data.source")()
    try:
        if isinstance(result, Dataset):
            splits = {name: _checked(*vars(getattr(result, name)).values()) for name in ("train", "validation", "test")}
            _check_alike(*splits.values())
            return Dataset(**{**vars(result), **splits, "name": source})
        (train_images, train_labels), (test_images, test_labels) = result
        train, test = _checked(train_images, train_labels), _checked(test_images, test_labels)
        _check_alike(train, test)
        if len(train) < 2:
            raise ValueError("1 training sample is too few: one is for validation")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"data.source {source}: {error}",
            "Return ((train_images, train_labels), (test_images, test_labels)): images uint8 [n, height, width, "
            "channels], labels integers [n] from 0; or a pipeline.data.Dataset.",
        ) from error
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return _three_splits(
        source,
        "data.source",
        train,
        test,
        validation=max(1, len(train) // 10),
        class_names=tuple(str(index) for index in range(classes)),
    )


def _check_alike(*splits: Split) -> None:
    shapes = [list(split.images.shape[1:]) for split in splits]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"the splits' images differ in shape: {', '.join(map(str, shapes))}")


def _checked(images: Any, labels: Any) -> Split:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}, not uint8 [n, height, width, channels]")
    if not np.issubdtype(labels.dtype, np.integer) or labels.size != len(images) or labels.size == 0:
        raise ValueError(f"labels are {labels.dtype} {list(labels.shape)} for {len(images)} images")
    if labels.min() < 0:
        raise ValueError(f"the smallest label is {labels.min()}; they count from 0")
    images = images[..., None] if images.ndim == 3 else images
    return Split(np.ascontiguousarray(images), labels.reshape(-1).astype(np.int64))
