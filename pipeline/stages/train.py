"""Stage 1: train the Keras model, on the GPU where there is one."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from pipeline import data, digests, environment, hosts, user_code
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.history import TestMetric, TrainingHistory
from pipeline.artifacts.manifest import DatasetSummary
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.tensor import TensorRecord
from pipeline.config import AUTO, Model, Train
from pipeline.data import Dataset
from pipeline.errors import DataError
from pipeline.graphs import files, keras_layers
from pipeline.judging.choosing import Choosing
from pipeline.models import calling, declaring, sources
from pipeline.tensors import Signature, fixed_batch
from pipeline.training import adoption, callbacks, compiling, fitting, precision, recipes, testing, together, trying
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.devices import Devices, chosen
from pipeline.training.fitting import Fitted
from pipeline.training.progress import Bar
from pipeline.training.recipes import Plan
from pipeline.workflow.context import Context, Outcome

LOGS = "tensorboard"


def run(context: Context) -> Outcome:
    """Publish the original model, `model.json`, `history.json` and `dataset.json`."""
    config = context.config
    sources.check(config.model)
    dataset = data.load(config.data)
    read = context.fingerprint().data
    trains = _trains(config.train, dataset, config.model)
    devices = chosen(config.train.devices if trains else (AUTO,))
    _say_devices(context, devices, trains)
    keras.utils.set_random_seed(config.train.seed)
    if (
        config.model.kind == "saved_model"
        and config.model.trust
        and (reaching := adoption.reaching_out(Path(config.model.source)))
    ):
        context.warn(f"{config.model.source} has operators that reach beyond the model: {', '.join(reaching)}")
    with devices.scope(), precision.policy(config.train.precision if trains else precision.FLOAT32, context.say):
        prepared = _prepare(config.model, dataset, context.output, compiled=trains)
    declaring.check(config.model.inputs, prepared.record.signature)
    dataset = data.bind(dataset, prepared.record.signature)
    record = dataset.record()
    outputs = [spec.name for spec in prepared.record.signature.outputs]
    Choosing(record, config.validate_.task, config.validate_.budget).check_names(outputs)  # before hours of training
    _say_data(context, record)
    plan = recipes.plan(
        config.train,
        config.model.source,
        len(dataset.train),
        fixed_batch=fixed_batch(prepared.record.signature.inputs),
        devices=len(devices),
    )
    fitted: Fitted | None = None
    if prepared.model is None or not trains:
        size = "" if prepared.record.parameters is None else f" ({prepared.record.parameters:,} parameters)"
        context.say(f"adopting {prepared.record.name}{size} from {config.model.source} as it is")
    else:
        fitted = _fit(context, prepared.model, dataset, read, plan, devices)
    if prepared.model is not None:
        prepared = _published(prepared, context.output, trained=fitted is not None)
    published = context.output / prepared.record.file.partition("/")[2]
    tested = testing.test(context, published, prepared.record, dataset.test, record)

    context.write(record)
    context.write(prepared.record.model_copy(update={"trained_epochs": len(fitted.epochs) if fitted else 0}))
    context.write(_history(dataset, devices, plan, fitted, tested))
    return Outcome(
        dataset=DatasetSummary(
            name=record.name, origin=record.origin, substitute=record.substitute, samples=record.samples
        )
    )


class Prepared(NamedTuple):
    """The configured model: its record, and itself where it is Keras's, which is yet to be published."""

    record: ModelRecord
    model: keras.Model | None


def _published(prepared: Prepared, output: Path, *, trained: bool) -> Prepared:
    """Write the model: in FP32 where it was trained here, and as it was trained beside that where they differ.

    A file that was adopted stays as its user runs it; the export brings it into FP32.
    """
    assert prepared.model is not None
    model = sources.in_fp32(prepared.model) if trained else prepared.model
    model.save(output / "model.keras")
    if model is prepared.model:
        return prepared
    prepared.model.save(output / "as_trained.keras")
    own = {"as_trained": "train/as_trained.keras", "policy": sources.policy(model)}
    return Prepared(prepared.record.model_copy(update=own), model)


def _history(
    dataset: Dataset, devices: Devices, plan: Plan, fitted: Fitted | None, tested: tuple[TestMetric, ...]
) -> TrainingHistory:
    epochs = fitted.epochs if fitted else ()
    training_s = sum(epoch.seconds for epoch in epochs)
    return TrainingHistory(
        dataset=dataset.name,
        backend=keras.backend.backend(),
        devices=devices.addresses,
        recipe=plan.recipe,
        batch=plan.batch,
        steps_per_epoch=plan.steps,
        steps_per_execution=fitted.steps_per_execution if fitted else None,
        learning_rate=plan.learning_rate,
        schedule=plan.schedule,
        in_memory=fitted.in_memory if fitted else None,
        epochs=epochs,
        best_epoch=fitted.best_epoch + 1 if fitted and fitted.best_epoch is not None else None,
        resumed_at=fitted.resumed_at if fitted else "",
        seconds=round(training_s + sum(epoch.validation_s for epoch in epochs), 2),
        samples_per_s=round(len(epochs) * len(dataset.train) / training_s, 1) if training_s else None,
        test=tested,
        test_samples=len(dataset.test),
    )


def _prepare(options: Model, dataset: Dataset, output: Path, *, compiled: bool) -> Prepared:
    """Find the configured model; what is no Keras model is published as it is."""
    kind = options.kind
    shapes = [rows.shape[1:] for rows in dataset.test.inputs.values()]
    trying.check(options, shapes, compiled=compiled and kind == "keras")
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
    shape = next(iter(shapes), ())  # random inputs are drawn later
    model = sources.find(options, shape, dataset.classes, compiled=compiled)
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
        sha256=_digest(options),
        file=file,
        as_trained=None,
        name=name,
        parameters=parameters,
        trained_epochs=0,
        policy=policy,
        inputs=tuple(map(TensorRecord.of, signature.inputs)),
        outputs=tuple(map(TensorRecord.of, signature.outputs)),
        layers=(),
    )


def _digest(options: Model) -> str | None:
    """Return the digest of the file or folder that the model came from, with that of an ONNX model's weights."""
    if options.kind == "function":
        return None
    path = Path(options.source)
    return files.digest(path) if options.kind == "onnx" else digests.of_path(path)


def _fit(
    context: Context, model: keras.Model, dataset: Dataset, read: str | None, plan: Plan, devices: Devices
) -> Fitted:
    """Train the model as planned, or go on with a training that was interrupted; `read` identifies the data.

    Raises:
        DataError: the data changed under way.
        PipelineError: as `fitting.fit`.
    """
    options = context.config.train
    with devices.scope():
        compiling.compile(model, calling.caller(model), dataset, plan.rate())
    context.say(
        f"training {model.name} ({model.count_params():,} parameters): {plan.epochs} epochs of {plan.steps} steps of "
        f"{plan.batch}, recipe {plan.recipe}"
    )
    watching = callbacks.own(options.callbacks) if options.callbacks else []
    logs = context.kept / LOGS
    if options.tensorboard:
        watching.append(callbacks.tensorboard(logs))
        context.say(f"TensorBoard's logs: {logs}")
    kept = Checkpoints(context.kept, _what(context, dataset))
    with together.shared(model, hosts.current()) as trained, Bar(context, plan) as bar:
        fitted = fitting.fit(context, trained, dataset, plan, devices, kept, [bar, *watching])
    if context.fingerprint().data != read:
        raise DataError(
            f"{dataset.origin} changed while the model was trained",
            f"Run it again. With the data as they were it would go on: its checkpoint is in {kept.folder}.",
        )
    if logs.is_dir():
        shutil.copytree(logs, context.output / LOGS)
    return fitted


def _what(context: Context, dataset: Dataset) -> dict[str, Any]:
    """Return what a training is of: the samples, and all else that makes another model of them."""
    known = context.fingerprint().model_dump(mode="json")
    known["configuration"]["train"].pop("tensorboard")
    return {"samples": dataset.seen["train"].sha256} | {
        key: known[key] for key in ("configuration", "versions", "model")
    }


def _say_devices(context: Context, devices: Devices, trains: bool) -> None:
    """Say whether there is a GPU, and on what the model is trained."""
    doing, on = "training" if trains else "running the model", " and ".join(devices.addresses)
    if len(devices) > 1:
        context.say(f"{doing} on {on}, each with a share of every batch")
        return
    if found := tf.config.list_physical_devices("GPU"):
        name = tf.config.experimental.get_device_details(found[0]).get("device_name", found[0].name)
        tf32 = "; products in FP32 are done in TF32, TensorFlow's default" if trains else ""
        context.say(f"GPU: yes, {name}; {doing} on it{tf32}")
    elif present := environment.gpus():
        context.warn(f"{present[0].name} is there, but TensorFlow cannot use it; {doing} on the CPU (`make doctor`)")
    else:
        context.say(f"GPU: none; {doing} on the CPU ({environment.cpu_name()}, {environment.cpu_count()} cores)")


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


def _trains(options: Train, dataset: Dataset, model: Model) -> bool:
    """Tell whether the model is trained, or adopted as it is.

    Raises:
        DataError: it would be trained on random numbers.
    """
    if dataset.random:
        if options.epochs not in (AUTO, 0):
            raise DataError(
                f"train.epochs = {options.epochs} would train on random numbers (data.source = random)",
                "Leave train.epochs at auto, which adopts the model as it is, or give data with data.source.",
            )
        return False
    return model.kind == "function" if options.epochs == AUTO else options.epochs > 0
