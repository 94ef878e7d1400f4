"""ONNX by tf2onnx, which converts the TensorFlow graph of the model; the result is simplified."""

from pathlib import Path
from typing import Literal

import keras
import onnx
import tensorflow as tf
import tf2onnx

from pipeline import graphs
from pipeline.errors import BuildError
from pipeline.graphs import simplify
from pipeline.models import calling
from pipeline.tensors import Signature

FILE = "model.onnx"
ARTIFACT: Literal["onnx"] = "onnx"


def write(model: keras.Model, path: Path, opset: int) -> str:
    """Write an ONNX file that the ONNX checker has passed in full.

    Raises:
        BuildError: as `convert`.
    """
    graph = convert(model, opset)
    onnx.save(graph, path)
    nodes, size = len(graph.graph.node), path.stat().st_size
    return f"ONNX: opset {graphs.opset(graph)}, {nodes} nodes, {size:,} bytes, checked in full"


def convert(model: keras.Model, opset: int) -> onnx.ModelProto:
    """Convert with tf2onnx, and simplify.

    Raises:
        BuildError: tf2onnx cannot convert the model, or wrote a graph that is not what was asked for.
    """
    serving, signature = calling.serving(model)
    function = tf.function(serving, input_signature=signature)
    try:
        converted, _ = tf2onnx.convert.from_function(function, input_signature=list(signature), opset=opset)
    except Exception as error:  # whatever tf2onnx meets: it has no exception of its own
        raise BuildError(
            f"tf2onnx cannot convert {model.name}: {type(error).__name__}: {error}",
            "Replace operators that ONNX lacks (such as Keras's exact GELU) in the model.",
        ) from error
    graph = simplify.simplify(converted)
    _check(graph, model.name, calling.signature(calling.caller(model)))
    return graph


def _check(graph: onnx.ModelProto, name: str, wanted: Signature) -> None:
    """Raise BuildError unless this is a valid graph of ONNX's own operators, with the names asked for."""
    graphs.check(graph, f"tf2onnx's conversion of {name}")
    foreign = sorted({node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise BuildError(
            f"tf2onnx left operators of TensorFlow in the graph: {', '.join(foreign)}",
            "Replace the layers they come from with ones that ONNX has operators for.",
        )
    found = Signature(graphs.inputs(graph), graphs.outputs(graph))
    for what, have, want in (
        ("inputs", found.inputs, wanted.inputs),
        ("outputs", found.outputs, wanted.outputs),
    ):
        if [(spec.name, spec.dtype) for spec in have] != [(spec.name, spec.dtype) for spec in want]:
            raise BuildError(
                f"tf2onnx gave the graph the {what} {', '.join(map(str, have))}, and the model's are "
                f"{', '.join(map(str, want))}"
            )
