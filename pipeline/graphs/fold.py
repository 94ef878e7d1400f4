"""Multiplying a scale and a shift per channel into the convolution before them, as for a normalisation that follows."""

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from pipeline.graphs.simplify import reads
from pipeline.tensors import Array

CHANNELS = {"Conv": 0, "ConvTranspose": 1}
"""The dimension of the weights that counts the channels of the result, for one group."""


def fold(model: ModelProto) -> ModelProto:
    """Fold each Mul and Add of a constant per channel into the convolution before it, which keeps its name.

    The results are the same but for rounding. onnxslim does it too, but renames the convolution, and takes a constant
    along another dimension for one per channel where the two have one size.

    The model is changed in place, and returned.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(reads(graph))
    reader = {name: node for node in graph.node for name in node.input}
    for convolution in [node for node in graph.node if node.op_type in CHANNELS]:
        if not all(name in constants and readers[name] == 1 for name in convolution.input[1:]):
            continue
        while readers[convolution.output[0]] == 1 and (follower := reader.get(convolution.output[0])):
            operand = _per_channel(follower, convolution, constants)
            if operand is None:
                break
            if follower.op_type == "Mul":
                _scale(convolution, constants, operand)
            else:
                _shift(model, convolution, constants, operand)
            convolution.output[0] = follower.output[0]
            graph.node.remove(follower)
    return model


def _per_channel(follower: NodeProto, convolution: NodeProto, constants: dict[str, TensorProto]) -> TensorProto | None:
    """Return the constant that a Mul or Add applies to each channel of a convolution's result, if it does."""
    weights = constants[convolution.input[1]]
    groups = next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)
    if follower.op_type not in ("Mul", "Add") or (convolution.op_type == "ConvTranspose" and groups != 1):
        return None
    operand = next((constants[name] for name in follower.input if name in constants), None)
    rank, channels = len(weights.dims), weights.dims[CHANNELS[convolution.op_type]]
    if operand is None or len(operand.dims) > rank:
        return None
    aligned = [1] * (rank - len(operand.dims)) + list(operand.dims)
    return operand if aligned == [1, channels, *[1] * (rank - 2)] else None


def _scale(convolution: NodeProto, constants: dict[str, TensorProto], operand: TensorProto) -> None:
    scale = numpy_helper.to_array(operand).reshape(-1)
    weights = numpy_helper.to_array(constants[convolution.input[1]])
    shape = np.ones(weights.ndim, int)
    shape[CHANNELS[convolution.op_type]] = -1
    _replace(constants[convolution.input[1]], weights * scale.reshape(shape))
    if len(convolution.input) > 2:
        bias = constants[convolution.input[2]]
        _replace(bias, numpy_helper.to_array(bias) * scale)


def _shift(model: ModelProto, convolution: NodeProto, constants: dict[str, TensorProto], operand: TensorProto) -> None:
    shift = numpy_helper.to_array(operand).reshape(-1)
    if len(convolution.input) > 2:
        bias = constants[convolution.input[2]]
        _replace(bias, numpy_helper.to_array(bias) + shift)
        return
    name = f"{operand.name}/bias"  # tells which layer it comes from; others may read the operand as it is
    convolution.input.append(name)
    model.graph.initializer.append(numpy_helper.from_array(shift, name))
    constants[name] = model.graph.initializer[-1]


def _replace(tensor: TensorProto, value: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
