"""Small data sets: in MNIST's format, and those that a function of a user's own returns; what tests look at in them."""

import gzip
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import data
from pipeline.data import mnist
from pipeline.data.splits import THE_ONLY
from pipeline.tensors import Signature, TensorSpec

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = mnist.IDX_FILES
SPLITS = ("train", "validation", "test")
Arrays = dict[str, NDArray[np.uint8]]
OwnData = Callable[[str], str]

GOOD = """
def load():
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (40, 12, 16, 3), np.uint8), np.arange(40) % 3
    return train, (random.integers(0, 256, (6, 12, 16, 3), np.uint8), np.arange(6) % 3)
"""


def model(inputs: dict[str, str], outputs: dict[str, str]) -> Signature:
    """Return what a model takes and returns, as `model({"image": "uint8 ? 28 28 1"}, {"digit": "float32 ? 10"})`."""

    def specs(texts: dict[str, str]) -> tuple[TensorSpec, ...]:
        found = []
        for name, text in texts.items():
            kind, *sizes = text.split()
            found.append(TensorSpec(name, tuple(None if one == "?" else int(one) for one in sizes), np.dtype(kind)))
        return tuple(found)

    return Signature(specs(inputs), specs(outputs))


def idx(array: NDArray[np.uint8]) -> bytes:
    """Return an array as the content of an IDX file."""
    header = (0x0800 + array.ndim).to_bytes(4, "big") + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def write(folder: Path, arrays: Arrays, named: str = "{}") -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        file = folder / (name.replace("-idx", ".idx") if named.startswith(".") else name)
        content = idx(array)
        if named.endswith(".gz"):
            file, content = file.with_name(f"{file.name}.gz"), gzip.compress(content, 1, mtime=0)
        file.write_bytes(content)
    return folder


def sample_set(train: int, test: int) -> Arrays:
    random = np.random.default_rng(0)
    return {
        name: random.integers(0, 256, (samples, 28, 28), np.uint8)
        if "images" in name
        else random.integers(0, 10, samples, np.uint8)
        for name, samples in zip(mnist.IDX_FILES, (train, train, test, test), strict=True)
    }


def hashes(split: data.Split) -> Counter[bytes]:
    return Counter(hashlib.sha256(image.tobytes()).digest() for image in split.inputs[THE_ONLY][:])


def images_of(split: data.Split) -> NDArray[np.uint8]:
    return split.inputs[THE_ONLY][:]


def labels_of(split: data.Split) -> NDArray[np.int64]:
    return split.targets[THE_ONLY][:]


MODEL = model({"image": "uint8 ? 28 28 1"}, {"digit": "float32 ? 10"})
