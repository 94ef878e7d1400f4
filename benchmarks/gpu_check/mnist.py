"""The step `data`: MNIST as the article's script reads it, from where the pipeline finds it."""

from pathlib import Path

from benchmarks.training.__main__ import as_keras_has_it
from pipeline.config import Data
from pipeline.data import load
from pipeline.errors import BackendUnavailable, DataError


def main(found: Path) -> None:
    """Write `found` as `keras.datasets.mnist.load_data` would return it.

    Raises:
        BackendUnavailable: MNIST is not at hand.
    """
    try:
        dataset = load(Data(name="mnist", download_timeout_s=20))
    except DataError as error:
        raise BackendUnavailable(error.message, error.hint) from error
    partial = found.with_suffix(".new.npz")
    as_keras_has_it(dataset, partial)
    partial.replace(found)
