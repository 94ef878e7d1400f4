"""MNIST: from a folder with its IDX files, or from the copy that Keras downloads."""

import contextlib
import hashlib
import http.client
import os
import threading
import urllib.request
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data import idx, npy
from pipeline.data.splits import THE_ONLY, Dataset, Split, three_splits
from pipeline.errors import DataError

Arrays = tuple[NDArray[np.uint8], ...]
"""Training images [n, 28, 28], training labels [n], test images, test labels; all uint8."""

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_IMAGES, IDX_LABELS = 0x00000803, 0x00000801
SIDE = 28
VALIDATION = 5_000

# What keras.datasets.mnist.load_data() downloads, with the digest it checks. It offers no limit on the time.
KERAS_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
KERAS_SHA256 = "731c5ac602752760c8e48fbffcb8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


class NotAtHandError(DataError):
    """MNIST is not in a folder and cannot be downloaded; `auto` then takes the digits."""


def load(folder: Path | None, *, download: bool, timeout_s: float) -> Dataset:
    """Return MNIST in three splits: of its 60,000 training images, 5,000 are for validation.

    Raises:
        NotAtHandError: no folder is given, and no copy can be downloaded.
        DataError: what is there cannot be used.
    """
    train_images, train_labels, test_images, test_labels = read(folder, download=download, timeout_s=timeout_s)
    if len(train_labels) <= VALIDATION or not len(test_labels):
        raise DataError(
            f"{folder or keras_cache()}: {len(train_labels)} training and {len(test_labels)} test images are too "
            f"few: {VALIDATION} of the first are for validation",
            "Use all of MNIST, or name the folder with data.source instead of data.dir.",
        )
    return three_splits(
        "mnist",
        "IDX files" if folder else "Keras download",
        Split({THE_ONLY: train_images[..., None]}, {THE_ONLY: train_labels.astype(np.int64)}),
        Split({THE_ONLY: test_images[..., None]}, {THE_ONLY: test_labels.astype(np.int64)}),
        validation=VALIDATION,
        class_names={THE_ONLY: tuple("0123456789")},
    )


def read(folder: Path | None, *, download: bool, timeout_s: float) -> Arrays:
    """Read the set from a folder, or, where none is given, from Keras's copy, which is downloaded if need be.

    Raises:
        NotAtHandError: no folder is given, and no copy can be downloaded.
        DataError: what is there cannot be used.
    """
    if folder is not None:
        return read_idx_folder(folder)
    cached = keras_cache()
    if not cached.is_file():
        if not download:
            raise NotAtHandError(f"no folder is set and {cached} does not exist")
        fetch_file(KERAS_URL, KERAS_SHA256, cached, timeout_s)
    try:
        found = dict(npy.members(cached))
        arrays = tuple(found[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    except (DataError, KeyError) as error:
        raise DataError(f"{cached} is not the Keras copy of MNIST: {error}", "Delete it and run again.") from error
    _check(arrays, cached)
    return arrays


def files(folder: Path | None) -> list[Path]:
    """Return the files that `read` would read, or nothing where one of them is not there."""
    try:
        found = [_idx_path(folder, name) for name in IDX_FILES] if folder else [keras_cache()]
    except NotAtHandError:
        return []
    present = [path for path in found if path is not None and path.is_file()]
    return present if len(present) == len(found) else []


def _idx_path(folder: Path, name: str) -> Path | None:
    # Some copies name the files "t10k-images.idx3-ubyte".
    names = (name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz")
    return next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)


def read_idx_folder(folder: Path) -> Arrays:
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
                f"data.dir and PIPELINE_DATA_DIR name a folder with MNIST's four IDX files: {', '.join(IDX_FILES)}.",
            )
        arrays.append(idx.read(path, IDX_IMAGES if "images" in name else IDX_LABELS))
    _check(tuple(arrays), folder)
    return tuple(arrays)


def _check(arrays: Arrays, where: Path) -> None:
    for images, labels, name in ((arrays[0], arrays[1], "train"), (arrays[2], arrays[3], "t10k")):
        if images.ndim != 3 or labels.ndim != 1 or {images.dtype, labels.dtype} != {np.dtype(np.uint8)}:
            raise DataError(f"{where}: {name} are no images and labels of uint8", "Use MNIST's own files.")
        if len(images) != len(labels):
            raise DataError(
                f"{where}: {name} has {len(images)} images and {len(labels)} labels", "Use files of the same set."
            )
        if images.shape[1:] != (SIDE, SIDE):
            raise DataError(
                f"{where}: {name} images are {images.shape[1]}×{images.shape[2]}, MNIST's are 28×28",
                "For other images name the folder with data.source instead of data.dir.",
            )
        if labels.size and labels.max() > 9:
            raise DataError(f"{where}: {name} has the label {labels.max()}, MNIST's are 0 to 9")


def keras_cache() -> Path:
    """Return where Keras keeps its copy.

    Raises:
        NotAtHandError: nobody knows where the user's home is.
    """
    try:
        home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    except RuntimeError as error:
        raise NotAtHandError("neither HOME nor KERAS_HOME says where Keras's copy is kept") from error
    return home / "datasets" / "mnist.npz"


def fetch_file(url: str, sha256: str, target: Path, timeout_s: float) -> None:
    """Download a file into place, whole and with the right digest or not at all, within `timeout_s` seconds."""
    try:
        content = _fetch(url, timeout_s)
    except (OSError, http.client.HTTPException) as error:
        raise NotAtHandError(f"download of {url} failed: {getattr(error, 'reason', error)}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NotAtHandError(f"download of {url} has the wrong SHA-256: a proxy's page, or a damaged file")
    # Of a name of its own: another process may have begun the same download, and either may be the first to end.
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise NotAtHandError(f"{target} cannot be written: {error.strerror}") from error


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
