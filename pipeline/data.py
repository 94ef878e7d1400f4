"""Datasets: MNIST from a folder or the Keras download, the digits embedded in scikit-learn, the user's own."""

import contextlib
import gzip
import hashlib
import http.client
import importlib
import importlib.util
import math
import os
import threading
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import config, environment
from pipeline.errors import DataError

DIR_VARIABLE = "PIPELINE_DATA_DIR"
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_IMAGES, IDX_LABELS = 0x00000803, 0x00000801
MNIST_SIDE = 28
MNIST_VALIDATION = 5_000

# What keras.datasets.mnist.load_data() downloads, with the digest it checks. It offers no limit on the time.
KERAS_MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
KERAS_MNIST_SHA256 = "731c5ac602752760c8e48fbffcb8c3b850d9dc2a2aedcf2cc48468fc17b673d1"

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
    except _NotAtHandError as error:
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
        return f"{options.source} {source_digest(options.source)}"
    if options.name != "digits":
        folder = _folder(options)
        files = [_idx_path(folder, name) for name in IDX_FILES] if folder else [_keras_cache()]
        present = [path for path in files if path is not None and path.is_file()]
        if len(present) == len(files):
            return "mnist " + " ".join(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in present)
        if options.name == "mnist":
            return "mnist, not at hand"
    return "digits"


class _NotAtHandError(DataError):
    """MNIST is neither in a folder nor to be downloaded; `auto` then takes the digits."""


def _mnist(options: config.Data, *, download: bool) -> Dataset:
    folder = _folder(options)
    if folder is not None:
        arrays, origin, where = read_idx_folder(folder), "IDX files", folder
    else:
        cached = _keras_cache()
        if not cached.is_file():
            if not download:
                raise _NotAtHandError(f"no folder is set and {cached} does not exist")
            _download(KERAS_MNIST_URL, KERAS_MNIST_SHA256, cached, options.download_timeout_s)
        try:
            with cached.open("rb") as file, np.load(file, allow_pickle=False) as npz:
                arrays, origin = tuple(npz[key] for key in ("x_train", "y_train", "x_test", "y_test")), "Keras download"
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{cached} is not the Keras copy of MNIST: {error}", "Delete it and run again.") from error
        _check_mnist(arrays, cached)
        where = cached
    train_images, train_labels, test_images, test_labels = arrays
    if len(train_labels) <= MNIST_VALIDATION or not len(test_labels):
        raise DataError(
            f"{where}: {len(train_labels)} training and {len(test_labels)} test images are too few: "
            f"{MNIST_VALIDATION} of the first are for validation",
            "Use all of MNIST, or data.source=package.module:function.",
        )
    return _three_splits(
        "mnist",
        origin,
        Split(train_images[..., None], train_labels.astype(np.int64)),
        Split(test_images[..., None], test_labels.astype(np.int64)),
        validation=MNIST_VALIDATION,
        class_names=tuple("0123456789"),
    )


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


def _folder(options: config.Data) -> Path | None:
    if options.dir is not None:
        return options.dir
    return Path(os.environ[DIR_VARIABLE]) if os.environ.get(DIR_VARIABLE) else None


def _idx_path(folder: Path, name: str) -> Path | None:
    # Some copies name the files "t10k-images.idx3-ubyte".
    names = (name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz")
    return next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)


def read_idx_folder(folder: Path) -> tuple[NDArray[np.uint8], ...]:
    """Read MNIST's four files: training images [n, 28, 28], labels [n], test images, labels; all uint8.

    Raises:
        DataError: a file is missing, truncated, of another kind or image size, or counts differ.
    """
    arrays = []
    for name in IDX_FILES:
        path = _idx_path(folder, name)
        if path is None:
            raise DataError(
                f"{folder} has no {name} (nor {name}.gz)",
                f"data.dir and {DIR_VARIABLE} name a folder with MNIST's four IDX files: {', '.join(IDX_FILES)}.",
            )
        arrays.append(read_idx(path, IDX_IMAGES if "images" in name else IDX_LABELS))
    _check_mnist(tuple(arrays), folder)
    return tuple(arrays)


def _check_mnist(arrays: tuple[NDArray[np.uint8], ...], where: Path) -> None:
    for images, labels, name in ((arrays[0], arrays[1], "train"), (arrays[2], arrays[3], "t10k")):
        if len(images) != len(labels):
            raise DataError(
                f"{where}: {name} has {len(images)} images and {len(labels)} labels", "Use files of one set."
            )
        if images.shape[1:] != (MNIST_SIDE, MNIST_SIDE):
            raise DataError(
                f"{where}: {name} images are {images.shape[1]}×{images.shape[2]}, MNIST's are 28×28",
                "For other images use data.source=package.module:function.",
            )
        if labels.size and labels.max() > 9:
            raise DataError(f"{where}: {name} has the label {labels.max()}, MNIST's are 0 to 9")


def read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzip or not (format: the MNIST page of Y. LeCun).

    Raises:
        DataError: the file is truncated, too long, not gzip though named so, or has another magic number.
    """
    again = "Get the file anew."
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}", again) from error
    found = int.from_bytes(raw[:4], "big")
    if len(raw) < 4 or found != magic:
        raise DataError(f"{path} is not the IDX file expected: magic 0x{found:08x}, not 0x{magic:08x}", again)
    dimensions = magic & 0xFF
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise DataError(f"{path} is truncated: {len(raw)} bytes, the header alone has {header}", again)
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, header, 4))
    expected = header + math.prod(shape)
    if len(raw) != expected:
        what = "truncated" if len(raw) < expected else "too long"
        raise DataError(f"{path} is {what}: {len(raw)} bytes, its header {shape} says {expected}", again)
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _keras_cache() -> Path:
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return home / "datasets" / "mnist.npz"


def _download(url: str, sha256: str, target: Path, timeout_s: float) -> None:
    """Download a file into place, whole and with the right digest or not at all, within `timeout_s` seconds."""
    try:
        content = _fetch(url, timeout_s)
    except (OSError, http.client.HTTPException) as error:
        raise _NotAtHandError(f"download of {url} failed: {getattr(error, 'reason', error)}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _NotAtHandError(f"download of {url} has the wrong SHA-256: a proxy's page, or a damaged file")
    partial = target.with_suffix(".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise _NotAtHandError(f"{target} cannot be written: {error.strerror}") from error


def _fetch(url: str, timeout_s: float) -> bytes:
    """Return what is at `url`. urllib's own limit is for each read: a thread that takes too long is left behind."""
    answers: list[bytes | Exception] = []

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=min(timeout_s, 10.0)) as response:  # noqa: S310  constant, https
                answers.append(response.read())
        except Exception as error:  # raised again below
            answers.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not answers:
        raise TimeoutError(f"not finished after {timeout_s:g} s")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


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
    result = import_function(source, "data.source")()
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


def import_function(path: str, key: str) -> Callable[..., Any]:
    """Return the function that `package.module:function` names; the working directory is importable.

    Raises:
        DataError: no such module or function.
    """
    module_name, _, name = path.partition(":")
    environment.prepare_tensorflow()  # the user's module may import it
    try:
        with environment.native_log_hidden():
            function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise DataError(f"{key} = {path!r} cannot be imported: {error}", "Check the path, and PYTHONPATH.") from error
    if not callable(function):
        raise DataError(f"{key} = {path!r} is a {type(function).__name__}, not a function")
    result: Callable[..., Any] = function
    return result


def source_digest(path: str) -> str:
    """Return a digest of the file that an import path's function is written in, found without importing it."""
    try:
        spec = importlib.util.find_spec(path.partition(":")[0])
    except ImportError:
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return "not found"
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]
