"""Stage 1: train the Keras model, on the GPU where there is one."""

import math
import time
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline import data, digests, environment, user_code
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.history import TrainingHistory
from pipeline.artifacts.manifest import DatasetSummary
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.tensor import TensorRecord
from pipeline.config import Model, Train
from pipeline.data import Dataset
from pipeline.errors import DataError
from pipeline.graphs import keras_layers
from pipeline.judging.choosing import Choosing
from pipeline.models import calling, declaring, sources
from pipeline.tensors import CPU, FIRST_GPU, Signature
from pipeline.training import adoption, compiling, feeding, testing
from pipeline.workflow.context import Context, Outcome

ARTICLE_EPOCHS = 5
MIN_STEPS = 1_000
"""Five epochs of the 1,257 digits are 200 steps and end at 0.945; 1,000 steps end at 0.97 (MNIST: 8,595 in five)."""


def run(context: Context) -> Outcome:
    """Publish the original model, `model.json`, `history.json` and `dataset.json`."""
    config = context.config
    sources.check(config.model)
    dataset = data.load(config.data)
    epochs = _epochs(config.train, dataset, config.model)
    device = _device(context, epochs)
    keras.utils.set_random_seed(config.train.seed)
    if (
        config.model.kind == "saved_model"
        and config.model.trust
        and (reaching := adoption.reaching_out(Path(config.model.source)))
    ):
        context.warn(f"{config.model.source} has operators that reach beyond the model: {', '.join(reaching)}")
    prepared = _prepare(config.model, dataset, context.output, compiled=epochs > 0)
    declaring.check(config.model.inputs, prepared.record.signature)
    dataset = data.bind(dataset, prepared.record.signature)
    record = dataset.record()
    outputs = [spec.name for spec in prepared.record.signature.outputs]
    Choosing(record, config.validate_.task, config.validate_.budget).check_names(outputs)  # before hours of training
    _say_data(context, record)
    fitted = Fitted(0.0, (), {}, 0)
    if prepared.model is None or not epochs:
        size = "" if prepared.record.parameters is None else f" ({prepared.record.parameters:,} parameters)"
        context.say(f"adopting {prepared.record.name}{size} from {config.model.source} as it is")
    else:
        fitted = _fit(context, prepared.model, dataset, epochs)
    if prepared.model is not None:
        prepared.model.save(context.output / "model.keras")
    published = context.output / prepared.record.file.partition("/")[2]
    tested = testing.test(context, published, prepared.record, dataset.test, record)

    context.write(record)
    context.write(prepared.record.model_copy(update={"trained_epochs": epochs}))
    context.write(
        TrainingHistory(
            dataset=dataset.name,
            device=device,
            epochs=epochs,
            steps_per_epoch=fitted.steps,
            seconds=round(fitted.seconds, 2),
            samples_per_s=round(epochs * len(dataset.train) / fitted.seconds, 1) if epochs else None,
            epoch_seconds=fitted.epoch_seconds,
            history=fitted.history,
            test=tested,
            test_samples=len(dataset.test),
        )
    )
    return Outcome(
        dataset=DatasetSummary(
            name=record.name, origin=record.origin, substitute=record.substitute, samples=record.samples
        )
    )


class Prepared(NamedTuple):
    """The configured model: its record, and itself where it is Keras's, which is yet to be published."""

    record: ModelRecord
    model: keras.Model | None


def _prepare(options: Model, dataset: Dataset, output: Path, *, compiled: bool) -> Prepared:
    """Find the configured model; what is no Keras model is published as it is."""
    kind = options.kind
    for module in options.imports:
        user_code.import_module(module, "model.imports")
    if kind in ("saved_model", "onnx"):
        if compiled:
            raise DataError(
                f"model.source {options.source} cannot be trained: it is no Keras model",
                "Leave train.epochs at 0, or give the .keras file.",
            )
        adopted = (adoption.saved_model if kind == "saved_model" else adoption.onnx_file)(options, output)
        file, name, parameters, signature = adopted
        return Prepared(_record(options, file, name, parameters, "float32", signature), None)
    shape = next((rows.shape[1:] for rows in dataset.test.inputs.values()), ())  # random inputs are drawn later
    targets = dataset.targets
    model = sources.find(options, shape, len(targets[0].classes) if targets else 0, compiled=compiled)
    model = calling.functional(model, calling.caller(model, options.inputs))
    signature = calling.signature(calling.caller(model))
    record = _record(options, "train/model.keras", model.name, model.count_params(), sources.policy(model), signature)
    return Prepared(record.model_copy(update={"layers": tuple(keras_layers.names(model))}), model)


def _record(
    options: Model, file: str, name: str, parameters: int | None, policy: str, signature: Signature
) -> ModelRecord:
    return ModelRecord(
        origin=options.source,
        kind=options.kind,
        sha256=None if options.kind == "function" else digests.of_path(Path(options.source)),
        file=file,
        name=name,
        parameters=parameters,
        trained_epochs=0,
        policy=policy,
        inputs=tuple(map(TensorRecord.of, signature.inputs)),
        outputs=tuple(map(TensorRecord.of, signature.outputs)),
        layers=(),
    )


class Fitted(NamedTuple):
    """How long the training took, in all and by epoch, Keras's measures by epoch, and the steps of one."""

    seconds: float
    epoch_seconds: tuple[float, ...]
    history: dict[str, tuple[float, ...]]
    steps: int


def _fit(context: Context, model: keras.Model, dataset: Dataset, epochs: int) -> Fitted:
    """Train the model.

    Raises:
        DataError: the loss is not a number.
    """
    options, how = context.config.train, calling.caller(model)
    steps = math.ceil(len(dataset.train) / options.batch_size)
    compiling.compile(model, how, dataset, _learning_rate(options, epochs * steps))
    context.say(f"training {model.name} ({model.count_params():,} parameters): {epochs} epochs of {steps} steps")
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
    return Fitted(seconds, tuple(progress.epoch_seconds), measures, steps)


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
    if record.random:
        context.warn("there are NO DATA: the inputs are RANDOM NUMBERS, for export, build and timing only")
    samples = record.samples
    context.say(
        f"data: {record.name} ({record.origin}), {samples.train:,} training, {samples.validation:,} "
        f"validation and {samples.test:,} test samples"
    )


def _epochs(options: Train, dataset: Dataset, model: Model) -> int:
    if dataset.random:
        if options.epochs not in ("auto", 0):
            raise DataError(
                f"train.epochs = {options.epochs} would train on random numbers (data.source = random)",
                "Leave train.epochs at auto, which adopts the model as it is, or give data with data.source.",
            )
        return 0
    if options.epochs != "auto":
        return options.epochs
    if model.kind != "function":
        return 0  # a file holds a trained model
    return max(ARTICLE_EPOCHS, math.ceil(MIN_STEPS / math.ceil(len(dataset.train) / options.batch_size)))


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
