"""What a model is trained with where it does not say: Adam, and the loss that its outputs and targets call for."""

from typing import Any

import keras

from pipeline import tasks
from pipeline.data import Dataset
from pipeline.errors import DataError
from pipeline.models import calling
from pipeline.models.calling import Caller
from pipeline.tasks import Seen

LOOKED_AT = 32
"""Samples by which it is told what an output holds."""


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
    found = calling.named((spec.name for spec in how.outputs), result)
    labels = dataset.train.labels(few)
    losses, metrics = [], []
    for spec in how.outputs:
        outputs = keras.ops.convert_to_numpy(found[spec.name])
        loss, metric = _loss(Seen(spec.name, outputs, labels[spec.name]))
        losses.append(loss)
        metrics.append(metric)
    several = len(how.outputs) > 1
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.tree.pack_sequence_as(how.results, losses) if several else losses[0],
        metrics=keras.tree.pack_sequence_as(how.results, [[one] for one in metrics]) if several else metrics[:1],
    )


def _loss(seen: Seen) -> tuple[str | keras.losses.Loss, str]:
    """Return the loss and the measure of an output, by the task that it will be judged by.

    Raises:
        DataError: no loss goes with it.
    """
    name, form = next(((name, fit.form) for name in tasks.NAMES if (fit := tasks.get(name).guess(seen))), ("", ""))
    if name == "regression":
        return "mean_squared_error", "mean_absolute_error"
    from_logits = "logit" in form or (name == "segmentation" and not seen.distribution)
    if form.startswith(("one ", "several ")):
        return keras.losses.BinaryCrossentropy(from_logits="logit" in form), "accuracy"
    if form in ("probabilities", "logits", "scores"):
        one_hot = seen.target_shape == seen.shape
        kind = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
        return kind(from_logits=from_logits), "accuracy"
    raise DataError(seen.refuse("a loss").message, "Compile the model with its loss before you save it.")
