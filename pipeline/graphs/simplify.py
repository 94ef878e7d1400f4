"""Simplifying a graph as tf2onnx wrote it, before anything else is made of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxslim
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnxslim.core.shape_inference.context import InferenceContext

from pipeline.errors import BuildError, first_line
from pipeline.graphs import files
from pipeline.graphs.external import MOST
from pipeline.graphs.weights import with_weights, without_weights

BROADCASTING = frozenset({"Add", "Div", "Max", "Min", "Mul", "Sub"})
"""The elementwise operators in which a model's own constants turn up."""


def simplify(model: ModelProto) -> ModelProto:
    """Return the model simplified by onnxslim, its single numbers in the shape that ONNX Runtime is fast with.

    The results are the same bit for bit. Of a graph of 2 GB or more onnxslim, which copies it several times, is given
    the nodes without the weights: what it would merge into weights stays as it is.

    Raises:
        BuildError: the graph is not right, in the words of onnxslim or of ONNX's shape inference.
    """
    try:
        large = files.size(model) > MOST
        with _whole_numbers_only():
            slim: ModelProto = onnxslim.slim(without_weights(model) if large else model)
        if large:
            slim = with_weights(slim, model)
        return _shape_single_numbers(slim)
    except Exception as error:  # each has errors of its own, and raises Python's too
        raise BuildError(
            f"the graph cannot be simplified: {type(error).__name__}: {first_line(error)}",
            "Please report this with the model.",
        ) from error


@contextmanager
def _whole_numbers_only() -> Iterator[None]:
    """Keep onnxslim from computing with fractions, which it cuts off to whole numbers.

    It follows the sizes of tensors through a graph, and what is computed from them, and puts the numbers it finds into
    the graph: 5 - 1 times 0.3 became 1, and so Keras's quantile and median wrong (0.1.98).
    """
    real = InferenceContext.get_int_or_float_values

    def values(self: InferenceContext, node: NodeProto, *args: Any, **options: Any) -> list[Any]:
        known = [self.try_get_value(node, index) for index in range(len(node.input))]
        if any(value is not None and np.any(np.mod(np.asarray(value, float), 1)) for value in known if _number(value)):
            return [None] * len(known)
        found: list[Any] = real(self, node, *args, **options)
        return found

    with mock.patch.object(InferenceContext, "get_int_or_float_values", values):
        yield


def _number(value: Any) -> bool:
    """Tell a number or an array of them from an expression of dynamic sizes."""
    return isinstance(value, (int, float, np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "iuf"


def _shape_single_numbers(model: ModelProto) -> ModelProto:
    """Give a constant of one element as many dimensions as the result, where the result's last dimension is 1.

    ONNX Runtime joins the dimensions over which an elementwise operator need not broadcast into one long loop. A last
    dimension of 1, of which a constant with fewer dimensions has no counterpart, ends that loop at once, and the
    operator walks element by element (1.26 and 1.32 on a CPU: 360 µs and not 6 for `Mul` on [32, 28, 28, 1], grey
    images before a convolution). Elsewhere constants are left alone: ONNX Runtime knows GELU and the like by their
    scalars.

    The model is changed in place, and returned.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(without_weights(model), strict_mode=True, data_prop=True).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.output)}
    shaped: dict[str, TensorProto] = {}
    for node in graph.node:
        shape = shapes.get(node.output[0], ()) if node.op_type in BROADCASTING else ()
        if not shape or shape[-1].dim_value != 1:
            continue
        for i, name in enumerate(node.input):
            if name in constants and _one_element(constants[name]) and len(constants[name].dims) < len(shape):
                fresh = f"{name}/rank{len(shape)}"  # equal constants are one, which others may read as it is
                shaped[fresh] = _of_rank(constants[name], fresh, len(shape))
                node.input[i] = fresh
    read = set(reads(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *shaped.values()])
    return model


def _one_element(tensor: TensorProto) -> bool:
    return all(size == 1 for size in tensor.dims)


def _of_rank(tensor: TensorProto, name: str, rank: int) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    copy.dims[:] = [1] * rank
    return copy


def reads(graph: GraphProto) -> Iterator[str]:
    """Yield the names that a graph's nodes read, those in the bodies of If and Loop too, and its outputs."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            bodies: Iterable[GraphProto] = [attribute.g, *attribute.graphs]
            for body in bodies:
                yield from reads(body)
