"""A tiny model and its samples, and the names of the fixtures that run stages on them."""

from collections.abc import Callable

import numpy as np

from pipeline import environment
from pipeline.errors import PipelineError

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

Stage = Callable[..., str]
"""Runs a stage with keys and values, such as `stage("train", {"model.source": "m.keras"})`; returns what it said."""

Refused = Callable[..., PipelineError]
"""The same for what must be refused: returns the error, after a look that what was published before is still there."""

FEATURES, CLASSES, SAMPLES = 4, 3, 60


def samples(count: int = SAMPLES, features: int = FEATURES) -> np.ndarray:
    """Return random samples."""
    return np.random.default_rng(0).normal(size=(count, features)).astype(np.float32)


def labels(count: int = SAMPLES, classes: int = CLASSES) -> np.ndarray:
    """Return a label for each."""
    return np.arange(count) % classes


def classifier(outputs: int = CLASSES, activation: str | None = "softmax") -> keras.Model:
    """Return a network of one layer, from the input `a` to the output `p`."""
    taken = keras.Input((FEATURES,), name="a")
    return keras.Model(taken, keras.layers.Dense(outputs, activation=activation, name="p")(taken))
