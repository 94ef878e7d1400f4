"""Stage 2: export the trained model to SavedModel and ONNX, both under the names `image` and `probabilities`."""

from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from pipeline import backends, graphs, models
from pipeline.backends import LoadOptions
from pipeline.errors import BuildError
from pipeline.graphs import simplify
from pipeline.workflow.context import Context, Outcome

INPUT, OUTPUT = "image", "probabilities"
SAMPLES = 8
"""Random images that both formats must agree on with Keras here; the validate stage compares the whole test set."""


def run(context: Context) -> Outcome:
    """Publish `saved_model/` and `model.onnx`."""
    model = models.load(context.published.path("train/model.keras"), context.config.model.source)
    image_shape = tuple(model.inputs[0].shape[1:])  # [height, width, channels]
    signature = tf.TensorSpec((None, *image_shape), tf.uint8, name=INPUT)

    saved_model = context.output / "saved_model"
    _write_saved_model(model, signature, saved_model)
    context.say(f"SavedModel: signature serving_default, {INPUT} uint8 {_shape(signature)} → {OUTPUT}")

    onnx_path = context.output / "model.onnx"
    graph = convert(model, signature, context.config.export.opset)
    onnx.save(graph, onnx_path)
    context.say(
        f"ONNX: opset {graphs.opset(graph)}, {len(graph.graph.node)} nodes, {onnx_path.stat().st_size:,} bytes, "
        "checked in full"
    )

    images = np.random.default_rng(0).integers(0, 256, (SAMPLES, *image_shape), dtype=np.uint8)
    expected = np.asarray(model(images, training=False))
    _compare(saved_model, "tensorflow", LoadOptions("saved_model"), images, expected)
    _compare(onnx_path, "onnxruntime", LoadOptions("cpu", exact=True), images, expected)
    context.say(f"both agree with Keras on {SAMPLES} random images")
    return Outcome()


def _shape(signature: tf.TensorSpec) -> str:
    return str(["batch" if size is None else size for size in signature.shape])


def _write_saved_model(model: keras.Model, signature: tf.TensorSpec, path: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", lambda image: {OUTPUT: model(image, training=False)}, input_signature=[signature]
    )
    archive.write_out(str(path), verbose=False)


def convert(model: keras.Model, signature: tf.TensorSpec, opset: int) -> onnx.ModelProto:
    """Convert with tf2onnx, and simplify.

    Raises:
        BuildError: tf2onnx cannot convert the model, or wrote a graph that is not what was asked for.
    """
    function = tf.function(lambda image: {OUTPUT: model(image, training=False)}, input_signature=[signature])
    try:
        converted, _ = tf2onnx.convert.from_function(function, input_signature=[signature], opset=opset)
    except Exception as error:  # whatever tf2onnx meets: it has no exception of its own
        raise BuildError(
            f"tf2onnx cannot convert {model.name}: {type(error).__name__}: {error}",
            "An operator that ONNX lacks (Keras's exact GELU is one) has to be replaced in the model.",
        ) from error
    graph = simplify.simplify(converted)
    graphs.check(graph, f"tf2onnx's conversion of {model.name}")
    foreign = sorted({node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise BuildError(
            f"tf2onnx left operators of TensorFlow in the graph: {', '.join(foreign)}",
            "Replace the layers they come from by ones that ONNX has operators for.",
        )
    names = [spec.name for spec in (*graphs.inputs(graph), *graphs.outputs(graph))]
    if names != [INPUT, OUTPUT] or graphs.inputs(graph)[0].dtype != np.uint8:
        raise BuildError(f"tf2onnx gave the graph the inputs and outputs {names}, not {INPUT} (uint8) and {OUTPUT}")
    return graph


def _compare(path: Path, backend: str, options: LoadOptions, images: np.ndarray, expected: np.ndarray) -> None:
    with backends.get(backend).load(path, options) as session:
        found = session.run({INPUT: images})[OUTPUT]
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise BuildError(
            f"{path.name} in {backend} differs from Keras by up to {np.abs(found - expected).max():.3g}",
            "The conversion is wrong for this model; please report it with the model.",
        )
