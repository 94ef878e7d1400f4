"""Stage 2: export the trained model by every exporter, under its own names of inputs and outputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline import backends, conversion, data, exporters, graphs, user_code
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.export import Compared, ExportedFile, ExportRecord, NotTaken
from pipeline.artifacts.model import ModelRecord
from pipeline.backends import LoadOptions, Session
from pipeline.data import sizes
from pipeline.errors import BuildError, DataError, InputError, first_line
from pipeline.exporters import Exportable, Exporter, Made
from pipeline.graphs import keras_layers
from pipeline.models import calling, sources
from pipeline.tensors import Array, Feed, Outputs, Tolerance, fixed_batch
from pipeline.workflow.context import Context, Outcome

BATCHES = (8, 3)
"""Real samples that all formats must agree on with the original here; validate compares all of the test split."""

EQUAL = Tolerance(rtol=1e-3, atol=1e-4)

CHECKED_BY = {
    "saved_model": ("tensorflow", LoadOptions("saved_model", exact=True, trust=True)),
    "onnx": ("onnxruntime", LoadOptions("cpu", exact=True)),
}
"""The backend that runs each kind of artifact here, for the comparison with the original."""


def run(context: Context) -> Outcome:
    """Publish the file of each exporter: `model.onnx`, and of a Keras model `saved_model/`."""
    published, config = context.published, context.config
    record = published.read(ModelRecord)
    user_code.register_layers(config.model.modules)
    model = _exportable(context, record)
    candidates = exporters.by_file(record.kind, config.export.exporter)
    dataset = published.read(DatasetRecord)
    test = data.reload(dataset, record.signature, config.data).test
    fixed = fixed_batch(record.signature.inputs)
    batches = (fixed,) if fixed else BATCHES
    feeds = {f"batches of {size}": test.feed(np.resize(np.arange(len(test)), size)) for size in batches}
    ranges = sizes.ranges(record.signature, dataset, config.engine.ranges)
    feeds |= dict(sizes.at_the_ends(test.feed(np.arange(batches[-1]) % len(test)), ranges))
    with _original(model) as original:
        expected = {what: _expected(original, feed, what) for what, feed in feeds.items()}

    def check(exporter: Exporter) -> tuple[Compared, ...]:
        path, (backend, options) = context.output / exporter.FILE, CHECKED_BY[exporter.ARTIFACT]
        with backends.get(backend).load(path, options) as session:
            return tuple(
                _compare(path, backend, session, feed, expected[what], what, model) for what, feed in feeds.items()
            )

    files = []
    for file, able in candidates.items():
        path = context.output / file
        made = exporters.first_right(able, model, path, config.export.opset, check, context.warn)
        context.say(made.line)
        files.append(_record(file, made))
    context.say(f"all agree with the original on test samples: {', '.join(feeds)}")
    opset = graphs.opset(graphs.load(context.output / "model.onnx", weights=False))
    export = ExportRecord(opset=opset, rtol=EQUAL.rtol, atol=EQUAL.atol, files=tuple(files))
    context.write(export)
    context.say(export.sentence)
    return Outcome()


def _record(file: str, made: Made[tuple[Compared, ...]]) -> ExportedFile:
    before = tuple(NotTaken(exporter=name, reason=first_line(error)) for name, error in made.before.items())
    return ExportedFile(
        file=file, exporter=made.exporter, not_taken=before, versions=made.versions, compared=made.checked
    )


def _exportable(context: Context, record: ModelRecord) -> Exportable:
    """Return the published original as exporters take it: a Keras model in FP32."""
    path = context.published.root / record.file
    if record.kind == "onnx":
        return Exportable(record.name, record.kind, path, record.signature, None, None)
    if record.kind == "saved_model":
        saved = calling.saved_signature(path, trust=context.config.model.trust)
        return Exportable(record.name, record.kind, path, saved.signature, saved.serving, saved.owner)
    trained = sources.read(path)
    model = sources.in_fp32(trained)
    if model is not trained:
        context.say(f"trained in {record.policy}: exported in FP32, and validate measures what that changes")
    signature = calling.signature(calling.caller(model))
    layers = tuple(keras_layers.names(model))
    return Exportable(record.name, record.kind, path, signature, calling.serving(model), model, layers)


def _expected(original: Callable[[Feed], Outputs], feed: Feed, what: str) -> Outputs:
    """Return the original's outputs, in FP32.

    Raises:
        DataError: it cannot run on these inputs, or returns NaN for them.
    """
    try:
        found = original(feed)
    except InputError as error:
        taken = ", ".join(f"{name} {list(rows.shape)}" for name, rows in feed.items())
        raise DataError(
            f"the model cannot run at {what}, {taken}: {error.message}",
            "Set engine.ranges to sizes that the model takes.",
        ) from error
    sources.refuse_nan(found, f"at {what}")
    return found


@contextmanager
def _original(model: Exportable) -> Iterator[Callable[[Feed], Outputs]]:
    """Load the original once; what is yielded runs it, in FP32, for the time of a `with` block."""
    serving = model.serving
    if serving is None:
        with backends.get("onnxruntime").load(model.path, LoadOptions("cpu", exact=True)) as session:
            yield lambda feed: {name: rows.copy() for name, rows in session.run(feed).items()}
        return
    # On a GPU, TensorFlow's own default is TF32, which is further away than a right export may be.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    # Traced, as Keras itself predicts: eagerly, some layers give another type.
    infer = tf.function(serving.function, input_signature=serving.signature)

    def run(feed: Feed) -> Outputs:
        with calling.refusals():
            found = infer(*(tf.constant(feed[spec.name]) for spec in serving.signature))
        return {name: one.numpy() for name, one in found.items()}

    yield run


def _compare(
    path: Path,
    backend: str,
    session: Session,
    feed: Feed,
    expected: Outputs,
    what: str,
    model: Exportable,
) -> Compared:
    """Raise BuildError unless what was exported computes what the original does."""
    found = session.run(feed)
    for name, want in expected.items():
        got = found[name]
        if got.shape == want.shape and EQUAL.holds(got, want):
            continue
        if got.shape == want.shape:
            how = f"differs from the original by up to {np.abs(got - want).max():.3g} in {name}"
        else:
            how = f"returns {name} of shape {list(got.shape)}, not {list(want.shape)}"
        raise BuildError(
            f"{path.name} in {backend} {how}, at {what}{_where(model, path, feed)}",
            "The conversion is wrong for this model: replace that layer, or please report it with the model.",
        )
    return Compared(at=what, max_abs={name: _distance(found[name], want) for name, want in expected.items()})


def _distance(found: Array, want: Array) -> float:
    differ = found != want
    return float(np.abs(found[differ].astype(float) - want[differ].astype(float)).max(initial=0.0))


def _where(model: Exportable, path: Path, feed: Feed) -> str:
    """Say which Keras layer is the first that the graph does not compute, where that can be told."""
    if path.suffix != ".onnx" or not model.layers:
        return ""
    found = conversion.first_difference(model.owner, graphs.load(path), {name: rows[:2] for name, rows in feed.items()})
    return f"; the first layer that differs is {found.layer}, by up to {found.max_abs:.3g}" if found else ""
