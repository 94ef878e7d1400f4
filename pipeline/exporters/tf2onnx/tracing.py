"""From a Python function to a frozen TensorFlow graph, in which everything but the inputs is a constant."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import tensorflow as tf
import tf2onnx.tf_loader

from pipeline.errors import BuildError
from pipeline.graphs import keras_layers

LIMIT = 2**31 - 2**20
"""Bytes that a protobuf file holds, with some room for what is not weights."""

Function = Callable[..., dict[str, Any]]
"""Takes tensors, in the order of a signature, and returns tensors by output name."""

STATEFUL = frozenset({"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "ResourceScatterUpdate"})
"""Operators by which a function changes a variable."""


@dataclass(frozen=True)
class Frozen:
    """A TensorFlow graph without variables.

    `weights` are the contents of the constants that the graph definition has only shapes of. `inputs` and `outputs` are
    the names of its tensors, with the name each is to have, in order.
    """

    graph: Any  # GraphDef
    weights: dict[str, bytes]
    inputs: dict[str, str]
    outputs: dict[str, str]


def freeze(function: Function, signature: Sequence[tf.TensorSpec], layers: Collection[str] = ()) -> Frozen:
    """Trace a function and freeze it; `layers` are the names of the Keras layers in it, for errors.

    Raises:
        BuildError: the function changes its variables, or they are more than an ONNX file holds.
    """
    order: list[str] = []

    def named(*tensors: Any) -> dict[str, Any]:
        found = function(*tensors)
        order[:] = found  # TensorFlow sorts a dictionary by its keys
        return found

    try:
        with _tables_by_comparison():
            concrete = tf.function(named, input_signature=list(signature)).get_concrete_function()
    except Exception as error:  # whatever the model's own code raises
        lines = [f"export: TensorFlow cannot trace the model: {type(error).__name__}", *str(error).splitlines()]
        raise BuildError(
            "\n  ".join(filter(str.strip, lines)),
            "Its layers have to work on dimensions that are not known (None): fix the layer named above, or the shape.",
        ) from error
    _check(concrete, layers)
    tensors = [tensor for tensor in concrete.inputs if tensor.dtype != tf.resource][: len(signature)]
    inputs = {tensor.name: spec.name for tensor, spec in zip(tensors, signature, strict=True)}
    by_name = {name: tensor.name for name, tensor in zip(sorted(order), concrete.outputs, strict=True)}
    outputs = {by_name[name]: name for name in order}
    with _inlinable(concrete):
        graph = tf2onnx.tf_loader.convert_variables_to_constants_large_model(concrete)
    graph = tf2onnx.tf_loader.fix_freezing_errors_part2(graph)
    _fill_in_captures(graph, concrete)
    _resize_floats(graph)
    optimised, weights = _optimise(graph, _matrices(graph, concrete), list(inputs), list(outputs))
    return Frozen(optimised, weights, inputs, outputs)


@contextmanager
def _tables_by_comparison() -> Iterator[None]:
    """While tracing, look integers up in a table by comparing them with each of its keys: IntegerLookup.

    ONNX has such a table only among its operators for classical models, which TensorRT lacks. A table of strings is
    left as it is, and refused.
    """
    real = tf.lookup.StaticHashTable.lookup

    def lookup(self: Any, keys: Any, name: str | None = None) -> Any:
        if not self.key_dtype.is_integer:
            return real(self, keys, name)
        with tf.init_scope():
            known, values = (tensor.numpy() for tensor in self.export())
        same = tf.cast(tf.expand_dims(keys, -1) == known, tf.float32)  # [..., keys of the table]
        found = tf.gather(values, tf.argmax(same, axis=-1))
        return tf.where(tf.reduce_max(same, axis=-1) > 0, found, self.default_value)

    with mock.patch.object(tf.lookup.StaticHashTable, "lookup", lookup):
        yield


@contextmanager
def _inlinable(concrete: Any) -> Iterator[None]:
    """While freezing, let TensorFlow inline the functions that were to be compiled as one (`jit_compile=True`).

    Keras wraps grouped convolutions in one. TensorFlow leaves such a call as it is, and tf2onnx has no operator for it:
    https://github.com/onnx/tensorflow-onnx/issues/2099.
    """
    real = concrete.graph.as_graph_def

    def as_graph_def(*args: Any, **options: Any) -> Any:
        graph = real(*args, **options)
        functions = graph.library.function
        for one in (*graph.node, *functions, *(node for function in functions for node in function.node_def)):
            one.attr.pop("_XlaMustCompile", None)
        return graph

    with mock.patch.object(concrete.graph, "as_graph_def", as_graph_def):
        yield


def _check(concrete: Any, layers: Collection[str]) -> None:
    graphs = [concrete.graph, *(each.graph for each in concrete.graph._functions.values() if hasattr(each, "graph"))]
    for operation in (operation for graph in graphs for operation in graph.get_operations()):
        if operation.type in STATEFUL:
            layer = keras_layers.layer_of(operation.name, layers)
            where = f"layer {layer!r}" if layer else operation.name
            raise BuildError(
                f"export: {where} changes a variable of the model as it runs ({operation.type}); ONNX has no state",
                "Build the layer without state (`stateful=False`), or make the state an input and an output.",
            )
    size = sum(variable.dtype.size * variable.shape.num_elements() for variable in concrete.graph.variables)
    if size > LIMIT:
        raise BuildError(
            f"the model has {size / 1e9:.1f} GB of weights, and an ONNX file holds 2 GB", "Export a smaller model."
        )


def _fill_in_captures(graph: Any, concrete: Any) -> None:
    """Make constants of the tensors that a function has captured, such as the statistics of a Normalization.

    tf2onnx takes them for inputs of the graph.
    """
    captured = {inner.op.name: outer for outer, inner in concrete.graph.captures if inner.dtype != tf.resource}
    for node in graph.node:
        if node.op == "Placeholder" and node.name in captured:
            _make_constant(node, tf.make_tensor_proto(captured[node.name].numpy()))


def _resize_floats(graph: Any) -> None:
    """Turn integers into floats before a bilinear resizing: of integers ONNX makes integers, and TensorFlow floats."""
    for node in [node for node in graph.node if node.op == "ResizeBilinear" and node.attr["T"].type != tf.float32]:
        cast = graph.node.add(name=f"{node.name}/float", op="Cast", input=[node.input[0]])
        cast.attr["SrcT"].type, cast.attr["DstT"].type = node.attr["T"].type, tf.float32.as_datatype_enum
        node.attr["T"].type = tf.float32.as_datatype_enum
        node.input[0] = cast.name


def _make_constant(node: Any, tensor: Any) -> None:
    node.op = "Const"
    node.attr.clear()
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)


def _matrices(graph: Any, concrete: Any) -> list[Any]:
    """Return the graph's constants that were variables of two dimensions or more: nearly all that is large.

    The rest, biases and the statistics of normalisations, TensorFlow computes with before the conversion.
    """
    variables = {inner.op.name for outer, inner in concrete.graph.captures if outer.dtype == tf.resource}
    constants = (node for node in graph.node if node.op == "Const" and node.name in variables)
    return [node for node in constants if len(node.attr["value"].tensor.tensor_shape.dim) >= 2]


def _optimise(graph: Any, large: list[Any], inputs: list[str], outputs: list[str]) -> tuple[Any, dict[str, bytes]]:
    """Let TensorFlow fold constants and inline functions, with placeholders for the `large` constants.

    Its optimizer copies the graph some ten times: VGG16, 528 MB of weights, took 9.8 GB with them in the graph.
    """
    weights: dict[str, bytes] = {}
    shapes = {}
    for node in large:
        tensor = node.attr["value"].tensor
        weights[node.name] = tf.make_ndarray(tensor).tobytes()
        tensor.ClearField("tensor_content")
        shapes[node.name] = type(tensor)(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape)
        node.op = "Placeholder"
        node.attr.clear()
        node.attr["dtype"].type = tensor.dtype
        node.attr["shape"].shape.CopyFrom(shapes[node.name].tensor_shape)
    with tf.Graph().as_default():
        found = tf2onnx.tf_loader.tf_optimize([*inputs, *(f"{name}:0" for name in weights)], outputs, graph)
    for node in found.node:
        if node.name in weights:
            _make_constant(node, shapes[node.name])
    kept = {node.name for node in found.node}
    return found, {name: content for name, content in weights.items() if name in kept}
