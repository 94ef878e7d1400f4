"""Keras callbacks of the user's own: what Weights & Biases, MLflow and others give to watch a training with."""

from collections.abc import Sequence

import keras

from pipeline import user_code
from pipeline.errors import DataError


def returned(path: str) -> list[keras.callbacks.Callback]:
    """Return the callbacks that the function named by `train.callbacks` returns.

    Raises:
        DataError: there is none, it raises, or returns something else.
    """
    function = user_code.import_function(path, "train.callbacks")
    try:
        found = function()
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise DataError(f"train.callbacks = {path!r} raised {type(error).__name__}: {error}") from error
    every = [found] if isinstance(found, keras.callbacks.Callback) else found
    if not isinstance(every, Sequence) or not all(isinstance(one, keras.callbacks.Callback) for one in every):
        raise DataError(
            f"train.callbacks = {path!r} returned {type(found).__name__}, not Keras callbacks",
            "Return a list of keras.callbacks.Callback.",
        )
    return list(every)
