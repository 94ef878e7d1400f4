"""Data sets in three disjoint splits: MNIST, the digits embedded in scikit-learn, the user's own of several kinds."""

import os
from pathlib import Path

from pipeline import config, digests
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.data import digits, mnist, sources
from pipeline.data.binding import bind
from pipeline.data.splits import Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Signature

__all__ = ["DIR_VARIABLE", "Dataset", "Split", "bind", "identify", "load", "reload"]

DIR_VARIABLE = "PIPELINE_DATA_DIR"


def load(options: config.Data, *, download: bool = True) -> Dataset:
    """Load the configured dataset.

    Raises:
        DataError: it is unavailable or cannot be used, and why.
    """
    if options.source:
        return sources.load(options.source, options)
    if options.name == "digits":
        return digits.load()
    try:
        return mnist.load(_folder(options), download=download, timeout_s=options.download_timeout_s)
    except mnist.NotAtHandError as error:
        if options.name == "mnist":
            raise DataError(
                f"MNIST is unavailable: {error.message}",
                f"Set data.dir or {DIR_VARIABLE} to a folder with its four IDX files, or set data.name=digits.",
            ) from error
        return digits.load(substitute=f"MNIST is unavailable: {error.message}")


def reload(record: DatasetRecord, signature: Signature, options: config.Data) -> Dataset:
    """Load again the very data that a model was trained on, whatever `data.name` says now, fitted to the model.

    Raises:
        DataError: they are unavailable, or are not the same.
    """
    known = record.name in ("mnist", "digits")
    chosen = {"name": record.name, "source": ""} if known else {"name": "auto", "source": record.name}
    dataset = bind(load(options.model_copy(update=chosen)), signature)
    found = dataset.record().sha256
    for split in ("train", "validation", "test"):
        if getattr(found, split) != getattr(record.sha256, split):
            raise DataError(
                f"the {split} split of {record.name} from {dataset.origin} is not the one the model was trained on",
                "Run `make train` with this data, or bring back the data used for training (data.dir for MNIST). Data "
                "that a function makes must be the same at every call: fix its seeds.",
            )
    return dataset


def identify(options: config.Data) -> str:
    """Identify the data that `load` would read, without a download: this decides whether training is up to date."""
    if options.source:
        return sources.identify(options.source, options)
    if options.name != "digits":
        if files := mnist.files(_folder(options)):
            return "mnist " + " ".join(digests.of_file(path)[:16] for path in files)
        if options.name == "mnist":
            return "mnist, unavailable"
    return "digits"


def _folder(options: config.Data) -> Path | None:
    if options.dir is not None:
        return options.dir
    return Path(os.environ[DIR_VARIABLE]) if os.environ.get(DIR_VARIABLE) else None
