"""Stage 2: export the trained model by every exporter, under its own names of inputs and outputs."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline import backends, conversion, data, exporters, graphs, user_code
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.backends import LoadOptions
from pipeline.data import sizes
from pipeline.errors import BuildError
from pipeline.exporters import Exportable
from pipeline.graphs import keras_layers
from pipeline.models import calling, sources
from pipeline.tensors import Feed, Outputs, Tolerance
from pipeline.workflow.context import Context, Outcome

BATCHES = (8, 3)
"""Real samples that all formats must agree on with the original here; validate compares all of the test split."""

EQUAL = Tolerance(rtol=1e-3, atol=1e-4)

CHECKED_BY = {
    "saved_model": ("tensorflow", LoadOptions("saved_model", exact=True)),
    "onnx": ("onnxruntime", LoadOptions("cpu", exact=True)),
}
"""The backend that runs each kind of artifact here, for the comparison with the original."""


def run(context: Context) -> Outcome:
    """Publish the file of each exporter: `model.onnx`, and of a Keras model `saved_model/`."""
    published, config = context.published, context.config
    record = published.read(ModelRecord)
    user_code.register_layers(config.model.source, config.model.imports)
    model = _exportable(context, record)
    exported = exporters.of(record.kind)
    for exporter in exported:
        context.say(exporter.write(model, context.output / exporter.FILE, config.export.opset))

    dataset = published.read(DatasetRecord)
    test = data.reload(dataset, record.signature, config.data).test
    feeds = {f"batches of {size}": test.feed(np.resize(np.arange(len(test)), size)) for size in BATCHES}
    ranges = sizes.ranges(record.signature, dataset, config.engine.ranges)
    feeds |= dict(sizes.at_the_ends(test.feed(slice(0, BATCHES[-1])), ranges))
    for what, feed in feeds.items():
        expected = _expected(model, feed)
        for exporter in exported:
            _compare(context.output / exporter.FILE, *CHECKED_BY[exporter.ARTIFACT], feed, expected, what, model)
    context.say(f"all agree with the original on test samples: {', '.join(feeds)}")
    return Outcome()


def _exportable(context: Context, record: ModelRecord) -> Exportable:
    """Return the published original as exporters take it: a Keras model in FP32."""
    path = context.published.root / record.file
    if record.kind == "onnx":
        return Exportable(record.name, record.kind, path, record.signature, None, None)
    if record.kind == "saved_model":
        saved = calling.saved_signature(path)
        return Exportable(record.name, record.kind, path, saved.signature, saved.serving, saved.owner)
    trained = sources.read(path)
    model = sources.in_fp32(trained)
    if model is not trained:
        context.say(f"trained in {record.policy}: exported in FP32, and validate measures what that changes")
    signature = calling.signature(calling.caller(model))
    layers = tuple(keras_layers.names(model))
    return Exportable(record.name, record.kind, path, signature, calling.serving(model), model, layers)


def _expected(model: Exportable, feed: Feed) -> Outputs:
    """Return the original's outputs, in FP32."""
    if model.serving is None:
        with backends.get("onnxruntime").load(model.path, LoadOptions("cpu", exact=True)) as session:
            return {name: rows.copy() for name, rows in session.run(feed).items()}
    # On a GPU, TensorFlow's own default is TF32, which is further away than a right export may be.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    found = model.serving.function(*(tf.constant(feed[spec.name]) for spec in model.serving.signature))
    return {name: one.numpy() for name, one in found.items()}


def _compare(
    path: Path,
    backend: str,
    options: LoadOptions,
    feed: Feed,
    expected: Outputs,
    what: str,
    model: Exportable,
) -> None:
    """Raise BuildError unless what was exported computes what the original does."""
    with backends.get(backend).load(path, options) as session:
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


def _where(model: Exportable, path: Path, feed: Feed) -> str:
    """Say which Keras layer is the first that the graph does not compute, where that can be told."""
    if path.suffix != ".onnx" or not model.layers:
        return ""
    found = conversion.first_difference(model.owner, graphs.load(path), {name: rows[:2] for name, rows in feed.items()})
    return f"; the first layer that differs is {found.layer}, by up to {found.max_abs:.3g}" if found else ""
