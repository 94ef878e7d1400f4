"""ONNX by tf2onnx, which converts the TensorFlow graph of the model; the result is simplified."""

import gc
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx.optimizer
import tf2onnx.tfonnx

from pipeline import environment, graphs
from pipeline.errors import BuildError
from pipeline.exporters import Exportable, Kind
from pipeline.exporters.tf2onnx import operators, refusals, repairs, signals
from pipeline.exporters.tf2onnx.handles import Handles
from pipeline.exporters.tf2onnx.replacement import as_tf2onnx_wants_them
from pipeline.exporters.tf2onnx.tracing import Frozen, Function, freeze
from pipeline.graphs import files, fold, keras_layers, simplify
from pipeline.models import calling
from pipeline.tensors import TensorSpec

FILE = "model.onnx"
ARTIFACT: Literal["onnx"] = "onnx"


TAKES: tuple[Kind, ...] = ("function", "keras", "saved_model")
RANK = 0


def versions() -> dict[str, str]:
    """Return the versions of what it works with; they are required packages."""
    return environment.versions_of("tensorflow", "keras", "tf2onnx", "onnxslim")


def write(model: Exportable, path: Path, opset: int) -> str:
    """Write an ONNX file that the ONNX checker has passed in full.

    Raises:
        BuildError: as `convert`.
    """
    assert model.serving is not None, "what TAKES says has one"
    graph = convert_function(*model.serving, opset, model.layers)
    files.save(graph, path)
    nodes, size = len(graph.graph.node), files.written(path)
    return f"ONNX: opset {graphs.opset(graph)}, {nodes} nodes, {size:,} bytes, checked in full"


def convert(model: keras.Model, opset: int) -> onnx.ModelProto:
    """Convert a Keras model with tf2onnx, and simplify.

    The graph has the inputs and outputs of `calling.serving`: their names, order, types and (dynamic) shapes.

    Raises:
        BuildError: tf2onnx cannot convert the model, or wrote a graph that is not what was asked for.
    """
    return convert_function(*calling.serving(model), opset, keras_layers.names(model))


def convert_function(
    function: Function, signature: Sequence[tf.TensorSpec], opset: int, layers: Collection[str] = ()
) -> onnx.ModelProto:
    """Convert any function of tensors, such as a SavedModel's signature.

    Args:
        function: takes tensors in the order of `signature`, and returns tensors by output name.
        signature: an input each, with a name of its own, and None where a dimension is dynamic.
        opset: the ONNX operator set.
        layers: the names of the Keras layers in it, by which errors speak.

    Raises:
        BuildError: as `convert`.
    """
    try:
        graph = simplify.simplify(fold.fold(_converted(function, signature, opset, layers)))
    except onnx.shape_inference.InferenceError as error:
        raise BuildError(
            f"export: tf2onnx's graph is not valid: {error}", "Please report this with the model."
        ) from error
    gc.collect()  # onnxslim's own graphs are cycles, with all weights
    graphs.check(graph, "export: tf2onnx's graph")
    _check_inputs(graph, signature)
    return graph


def _converted(
    function: Function, signature: Sequence[tf.TensorSpec], opset: int, layers: Collection[str]
) -> onnx.ModelProto:
    """Return what tf2onnx makes of a function, its constants put back and its errors corrected."""
    handles = Handles()
    with handles.in_use():
        model = _run(freeze(function, signature, layers), opset, layers)
    handles.put_back(model)
    repairs.repair(model)
    return model


def _run(frozen: Frozen, opset: int, layers: Collection[str]) -> onnx.ModelProto:
    """Run tf2onnx; the inputs of the graph are in the order of the signature, the outputs in the function's."""
    handlers = as_tf2onnx_wants_them(operators.HANDLERS | signals.HANDLERS)
    with refusals.words() as said, tf.Graph().as_default() as graph, tf.device("/cpu:0"):
        try:
            tf.import_graph_def(frozen.graph, name="")
            converted = tf2onnx.tfonnx.process_tf_graph(
                graph,
                continue_on_error=True,
                opset=opset,
                custom_op_handlers=handlers,
                input_names=list(frozen.inputs),
                output_names=list(frozen.outputs),
                const_node_values=frozen.weights,
                tensors_to_rename=frozen.inputs | frozen.outputs,
            )
            converted.delete_unused_nodes(converted.outputs)
            refusals.check(converted, layers, said)
            model: onnx.ModelProto = tf2onnx.optimizer.optimize_graph(converted).make_model("a Keras model")
        except BuildError:
            raise
        except Exception as error:  # whatever tf2onnx meets: it has no exception of its own
            lines = [f"export: tf2onnx failed: {type(error).__name__}: {error}", *(f"  {line}" for line in said)]
            raise BuildError("\n".join(lines), "Please report this with the model.") from error
    return model


def _check_inputs(graph: onnx.ModelProto, signature: Sequence[tf.TensorSpec]) -> None:
    """Raise BuildError unless the graph takes what the signature does."""
    asked = [TensorSpec(spec.name, tuple(spec.shape), np.dtype(spec.dtype.as_numpy_dtype)) for spec in signature]
    found = list(graphs.inputs(graph))
    if found != asked:
        raise BuildError(
            f"export: tf2onnx gave the graph the inputs {', '.join(map(str, found))}, not {', '.join(map(str, asked))}",
            "An input that the outputs do not depend on is left out: take it out of the model.",
        )
