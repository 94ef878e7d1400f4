"""What a model is trained with where it does not say: Adam, and the loss that its outputs and targets call for."""

from typing import Any

import keras
import numpy as np

from pipeline.data import Dataset
from pipeline.errors import DataError
from pipeline.models.calling import Caller
from pipeline.tensors import Array, TensorSpec

LOOKED_AT = 32
"""Samples by which it is told whether an output holds probabilities."""


def compile(model: keras.Model, how: Caller, dataset: Dataset, learning_rate: Any) -> None:
    """Compile a model that is not compiled yet; `learning_rate` is a number or one of Keras's schedules.

    Raises:
        DataError: there are no targets to train on, or the loss cannot be told from them.
    """
    if lacking := [spec.name for spec in how.outputs if spec.name not in dataset.train.targets]:
        raise DataError(
            f"there is nothing to train on: {dataset.name} has no target for {', '.join(lacking)}",
            "Give targets for every output, or set train.epochs=0 to take the model as it is.",
        )
    if model.compiled:
        return
    few = slice(0, LOOKED_AT)
    result = model(how.arguments(dataset.train.feed(few)), training=False)
    found = dict(zip((spec.name for spec in how.outputs), keras.tree.flatten(result), strict=True))
    labels = dataset.train.labels(few)
    losses, metrics = [], []
    for spec in how.outputs:
        loss, metric = _loss(spec, labels[spec.name], keras.ops.convert_to_numpy(found[spec.name]))
        losses.append(loss)
        metrics.append(metric)
    several = len(how.outputs) > 1
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.tree.pack_sequence_as(how.results, losses) if several else losses[0],
        metrics=keras.tree.pack_sequence_as(how.results, [[one] for one in metrics]) if several else metrics[:1],
    )


def _loss(spec: TensorSpec, targets: Array, outputs: Array) -> tuple[str | keras.losses.Loss, str]:
    """Return the loss and the measure for an output, by the type and shape of its targets."""
    if targets.dtype.kind == "f":
        return "mean_squared_error", "mean_absolute_error"
    unit = bool(((outputs >= 0) & (outputs <= 1)).all())
    if outputs.shape == targets.shape or outputs.shape[1:] == (1,):
        return keras.losses.BinaryCrossentropy(from_logits=not unit), "accuracy"
    if outputs.shape[:-1] != targets.shape:
        raise DataError(
            f"no loss goes with output {spec} and targets {targets.dtype}{list(targets.shape)}",
            "Compile the model with its loss before you save it.",
        )
    sums_to_1 = unit and np.allclose(outputs.sum(axis=-1, dtype=np.float64), 1, atol=1e-3)
    if sums_to_1:
        return "sparse_categorical_crossentropy", "accuracy"
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"
