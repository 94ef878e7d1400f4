"""Stage 1: train the Keras model, on the GPU where there is one."""

import math
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline import data, digests, environment, user_code
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.history import TrainingHistory
from pipeline.artifacts.manifest import DatasetSummary
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.tensor import TensorRecord
from pipeline.config import ARTICLE_CNN, Model, Train
from pipeline.data import Dataset, Split
from pipeline.errors import DataError
from pipeline.models import calling, sources
from pipeline.models.calling import Caller
from pipeline.tensors import CPU, FIRST_GPU, Signature
from pipeline.training import compiling, feeding
from pipeline.workflow.context import Context, Outcome

ARTICLE_EPOCHS = 5
MIN_STEPS = 1_000
"""Five epochs of the 1,257 digits are 200 steps and end at 0.945; 1,000 steps end at 0.97 (MNIST: 8,595 in five)."""


def run(context: Context) -> Outcome:
    """Publish `model.keras`, `model.json`, `history.json` and `dataset.json`."""
    config = context.config
    options, source = config.train, config.model.source
    dataset = data.load(config.data)
    epochs = _epochs(options, len(dataset.train), source)
    device = _device(context, epochs)

    keras.utils.set_random_seed(options.seed)
    model = _model(config.model, dataset, compiled=epochs > 0)
    how = calling.caller(model, config.model.inputs)
    model = calling.functional(model, how)
    how = calling.caller(model)
    signature = calling.signature(how)
    dataset = data.bind(dataset, signature)
    record = dataset.record()
    _say_data(context, record)
    steps = math.ceil(len(dataset.train) / options.batch_size)
    fitted = Fitted(0.0, (), {})
    if epochs:
        compiling.compile(model, how, dataset, _learning_rate(options, epochs * steps))
        context.say(f"training {model.name} ({model.count_params():,} parameters): {epochs} epochs of {steps} steps")
        fitted = _fit(context, model, how, dataset, epochs, steps)
    else:
        context.say(f"adopting {model.name} ({model.count_params():,} parameters) from {source} as it is")
    model.save(context.output / "model.keras")
    # A model that only this process can load is found now, not by the next stage.
    sources.read(context.output / "model.keras")
    accuracy = _accuracy(model, how, dataset.test)
    context.say(f"test accuracy {accuracy:.4f} on {len(dataset.test):,} samples of {dataset.name}")

    context.write(record)
    context.write(_record(config.model, model, signature, epochs))
    context.write(
        TrainingHistory(
            dataset=dataset.name,
            device=device,
            epochs=epochs,
            steps_per_epoch=steps if epochs else 0,
            seconds=round(fitted.seconds, 2),
            samples_per_s=round(epochs * len(dataset.train) / fitted.seconds, 1) if epochs else None,
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


def _model(options: Model, dataset: Dataset, *, compiled: bool) -> keras.Model:
    """Return the configured model; a function is told the shape of a sample and how many classes there are."""
    shape = next((rows.shape[1:] for rows in dataset.test.inputs.values()), ())  # random inputs are drawn later
    targets = dataset.targets
    return sources.find(options, shape, len(targets[0].classes) if targets else 0, compiled=compiled)


def _record(options: Model, model: keras.Model, signature: Signature, epochs: int) -> ModelRecord:
    own = options.source == ARTICLE_CNN or user_code.is_import_path(options.source)
    return ModelRecord(
        source=options.source,
        kind="function" if own else "keras",
        sha256=None if own else digests.of_path(Path(options.source)),
        file="train/model.keras",
        name=model.name,
        parameters=model.count_params(),
        trained_epochs=epochs,
        policy=sources.policy(model),
        inputs=tuple(map(TensorRecord.of, signature.inputs)),
        outputs=tuple(map(TensorRecord.of, signature.outputs)),
    )


def _accuracy(model: keras.Model, how: Caller, test: Split) -> float:
    """Return the share of the samples whose best class is right."""
    name = how.outputs[0].name
    found = np.concatenate([one[name].argmax(axis=-1) for one in feeding.predict(model, how, test, 256)])
    return float((found == test.labels()[name]).mean())


class Fitted(NamedTuple):
    """How long the training took, in all and by epoch, and Keras's measures by epoch."""

    seconds: float
    epoch_seconds: tuple[float, ...]
    history: dict[str, tuple[float, ...]]


def _fit(context: Context, model: keras.Model, how: Caller, dataset: Dataset, epochs: int, steps: int) -> Fitted:
    """Train the model.

    Raises:
        DataError: the loss is not a number.
    """
    options = context.config.train
    started = time.monotonic()
    with _Progress(context, epochs, steps) as progress:
        history = model.fit(
            **feeding.fit_arguments(dataset.train, how, options.batch_size, options.seed),
            epochs=epochs,
            validation_data=feeding.validation_data(dataset.validation, how, options.batch_size),
            verbose=0,
            callbacks=[progress],
        )
    seconds = time.monotonic() - started
    measures = {key: tuple(float(value) for value in values) for key, values in history.history.items()}
    if not all(map(math.isfinite, measures["loss"])):
        raise DataError("the training diverged: its loss is not a number", "Lower train.learning_rate.")
    return Fitted(seconds, tuple(progress.epoch_seconds), measures)


def _device(context: Context, epochs: int) -> str:
    """Say whether there is a GPU and what TensorFlow will use; return that device's address."""
    doing = "training" if epochs else "running the model"
    found = tf.config.list_physical_devices("GPU")
    if found:
        name = tf.config.experimental.get_device_details(found[0]).get("device_name", found[0].name)
        context.say(f"GPU: yes, {name}; {doing} on it")
        return str(FIRST_GPU)
    if present := environment.gpus():
        context.warn(f"{present[0].name} is there, but TensorFlow cannot use it; {doing} on the CPU (`make doctor`)")
    else:
        context.say(f"GPU: none; {doing} on the CPU ({environment.cpu_name()}, {environment.cpu_count()} cores)")
    return str(CPU)


def _say_data(context: Context, record: DatasetRecord) -> None:
    if record.substitute:
        context.warn(f"{record.substitute}\n          Training on {record.origin} INSTEAD: no figure below is MNIST's.")
    samples = record.samples
    context.say(
        f"data: {record.name} ({record.origin}), {samples.train:,} training, {samples.validation:,} "
        f"validation and {samples.test:,} test samples"
    )


def _epochs(options: Train, samples: int, source: str) -> int:
    if options.epochs != "auto":
        return options.epochs
    if source != ARTICLE_CNN and not user_code.is_import_path(source):
        return 0  # a file holds a trained model
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
