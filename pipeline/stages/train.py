"""Stage 1: train the Keras model, on the GPU where there is one."""

import math
import time
from typing import NamedTuple

import keras
import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline import data, environment, models
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.history import TrainingHistory
from pipeline.artifacts.manifest import DatasetSummary
from pipeline.config import Train
from pipeline.data import Dataset
from pipeline.errors import DataError
from pipeline.tensors import CPU, FIRST_GPU
from pipeline.workflow.context import Context, Outcome

ARTICLE_EPOCHS = 5
MIN_STEPS = 1_000
"""Five epochs of the 1,257 digits are 200 steps and end at 0.945; 1,000 steps end at 0.97 (MNIST: 8,595 in five)."""


def run(context: Context) -> Outcome:
    """Publish `model.keras`, `history.json` and `dataset.json`."""
    options = context.config.train
    device = _device(context)
    dataset = data.load(context.config.data)
    record = dataset.record()
    _say_data(context, record)

    keras.utils.set_random_seed(options.seed)
    model = models.build(context.config.model.source, dataset.test.images.shape[1:], len(dataset.class_names))
    epochs = _epochs(options, len(dataset.train))
    steps = math.ceil(len(dataset.train) / options.batch_size)
    if not model.compiled:
        model.compile(
            optimizer=keras.optimizers.Adam(_learning_rate(options, epochs * steps)),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    context.say(f"training {model.name} ({model.count_params():,} parameters): {epochs} epochs of {steps} steps")

    fitted = _fit(context, model, dataset, epochs, steps)
    model.save(context.output / "model.keras")
    # A model that only this process can load is found now, not by the next stage.
    models.load(context.output / "model.keras", context.config.model.source)
    predicted = model.predict(dataset.test.images, batch_size=256, verbose=0).argmax(axis=1)
    accuracy = float((predicted == dataset.test.labels).mean())
    context.say(f"test accuracy {accuracy:.4f} on {len(dataset.test):,} images of {dataset.name}")

    context.write(record)
    context.write(
        TrainingHistory(
            dataset=dataset.name,
            device=device,
            epochs=epochs,
            steps_per_epoch=steps,
            seconds=round(fitted.seconds, 2),
            images_per_s=round(epochs * len(dataset.train) / fitted.seconds, 1),
            epoch_seconds=fitted.epoch_seconds,
            history=fitted.history,
            test_accuracy=accuracy,
            test_samples=len(dataset.test),
        )
    )
    return Outcome(
        dataset=DatasetSummary(
            name=record.name, origin=record.origin, substitute=record.substitute, samples=record.samples
        )
    )


class Fitted(NamedTuple):
    """How long the training took, in all and by epoch, and Keras's measures by epoch."""

    seconds: float
    epoch_seconds: tuple[float, ...]
    history: dict[str, tuple[float, ...]]


def _fit(context: Context, model: keras.Model, dataset: Dataset, epochs: int, steps: int) -> Fitted:
    """Train the model.

    Raises:
        DataError: the loss is not a number.
    """
    started = time.monotonic()
    with _Progress(context, epochs, steps) as progress:
        history = model.fit(
            dataset.train.images,
            dataset.train.labels,
            batch_size=context.config.train.batch_size,
            epochs=epochs,
            validation_data=(dataset.validation.images, dataset.validation.labels),
            verbose=0,
            callbacks=[progress],
        )
    seconds = time.monotonic() - started
    measures = {key: tuple(float(value) for value in values) for key, values in history.history.items()}
    if not all(map(math.isfinite, measures["loss"])):
        raise DataError("the training diverged: its loss is not a number", "Lower train.learning_rate.")
    return Fitted(seconds, tuple(progress.epoch_seconds), measures)


def _device(context: Context) -> str:
    """Say whether there is a GPU and what TensorFlow will use; return that device's address."""
    found = tf.config.list_physical_devices("GPU")
    if found:
        name = tf.config.experimental.get_device_details(found[0]).get("device_name", found[0].name)
        context.say(f"GPU: yes, {name}; training on it")
        return str(FIRST_GPU)
    if present := environment.gpus():
        context.warn(f"{present[0].name} is there, but TensorFlow cannot use it; training on the CPU (`make doctor`)")
    else:
        context.say(f"GPU: none; training on the CPU ({environment.cpu_name()}, {environment.cpu_count()} cores)")
    return str(CPU)


def _say_data(context: Context, record: DatasetRecord) -> None:
    if record.substitute:
        context.warn(f"{record.substitute}\n          Training on {record.origin} INSTEAD: no figure below is MNIST's.")
    samples = record.samples
    context.say(
        f"data: {record.name} ({record.origin}), {samples.train:,} training, {samples.validation:,} "
        f"validation and {samples.test:,} test images"
    )


def _epochs(options: Train, samples: int) -> int:
    if options.epochs != "auto":
        return options.epochs
    return max(ARTICLE_EPOCHS, math.ceil(MIN_STEPS / math.ceil(samples / options.batch_size)))


def _learning_rate(options: Train, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return Adam's learning rate. On MNIST (3 seeds): cosine 0.9819 to 0.9822, constant 0.9806 to 0.9822."""
    if options.schedule == "constant":
        return options.learning_rate
    return keras.optimizers.schedules.CosineDecay(options.learning_rate, decay_steps=steps)


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """A bar with loss and accuracy; without a terminal, a line at every tenth of the epochs.

    `epoch_seconds` is how long each epoch trained, without its validation; the first one traces and compiles as well.
    """

    def __init__(self, context: Context, epochs: int, steps: int) -> None:
        super().__init__()
        self._context, self._epochs, self._steps = context, epochs, steps
        self._watched = context.console.is_terminal
        self.epoch_seconds: list[float] = []
        self._started = 0.0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            console=context.console,
            disable=not self._watched,
        )
        self._task = self._bar.add_task("train", total=epochs * steps, epoch=f"1/{epochs}", metrics="")

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update(self._task, epoch=f"{epoch + 1}/{self._epochs}")
        self._started = time.monotonic()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self.epoch_seconds.append(round(time.monotonic() - self._started, 4))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._watched:
            self._bar.update(self._task, advance=1, metrics=_metrics(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        every = max(1, self._epochs // 10)
        if not self._watched and ((epoch + 1) % every == 0 or epoch + 1 == self._epochs):
            self._context.say(f"epoch {epoch + 1}/{self._epochs}: {_metrics(logs)}")


def _metrics(logs: dict[str, float] | None) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
