"""A model whose training several processes share: Keras on JAX, each process with a copy and a share of every batch."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from pipeline.hosts import World


@contextmanager
def shared(model: keras.Model, world: World | None) -> Iterator[keras.Model]:
    """Yield a compiled model as all processes train it; at the end of the block the model itself has its weights.

    Each process begins with the same weights, which its seed makes. Alone, it yields the model.
    """
    if world is None:
        yield model
        return
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.keras"
        # Variables belong to the distribution that there is when they are made, and what made these is the user's.
        model.optimizer.build(model.trainable_variables)
        model.save(path)
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        try:
            copy = keras.saving.load_model(path)
            yield copy
        finally:
            keras.distribution.set_distribution(None)
        model.set_weights(copy.get_weights())
