"""Callbacks that watch a training: TensorBoard's, and the user's own, as of Weights & Biases or MLflow."""

import re
from collections.abc import Sequence
from pathlib import Path

import keras

from pipeline import user_code
from pipeline.errors import BackendUnavailable, DataError


def own(path: str) -> list[keras.callbacks.Callback]:
    """Return the callbacks that the function named by `train.callbacks` returns.

    Raises:
        DataError: there is none, it raises, or returns something else.
    """
    function = user_code.import_function(path, "train.callbacks")
    found = user_code.call(function, said=f"train.callbacks = {path!r} raised")
    every = [found] if isinstance(found, keras.callbacks.Callback) else found
    if not isinstance(every, Sequence) or not all(isinstance(one, keras.callbacks.Callback) for one in every):
        raise DataError(
            f"train.callbacks = {path!r} returned {type(found).__name__}, not Keras callbacks",
            "Return a list of keras.callbacks.Callback.",
        )
    for one in every:
        _guard(one, path)
    return list(every)


def _guard(callback: keras.callbacks.Callback, path: str) -> None:
    """Have what a callback raises while the model is trained be told as its own."""
    for name in filter(re.compile("on_").match, dir(callback)):
        said = f"train.callbacks = {path!r}: {type(callback).__name__}.{name} raised"
        setattr(callback, name, user_code.guarded(getattr(callback, name), said))


def tensorboard(folder: Path) -> keras.callbacks.Callback:
    """Return the callback that writes TensorBoard's logs.

    Raises:
        BackendUnavailable: TensorBoard, whose package writes them, is not installed.
    """
    try:
        import tensorboard  # noqa: F401  what TensorFlow's summaries are made by
    except ImportError as error:
        raise BackendUnavailable(
            f"train.tensorboard needs TensorBoard: {error}", "pip install 'keras-tensorrt-pipeline[tensorboard]'."
        ) from error
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)
