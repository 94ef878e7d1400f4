"""The constants that a graph adds to its products, channel by channel, and correcting them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from pipeline import graphs
from pipeline.graphs import control_flow

Floats = NDArray[np.float32]


class Bias(NamedTuple):
    """Where the bias of a product is: which input of which node; None where the product has none and takes one."""

    node: str
    operand: int
    name: str | None
    channel_axis: int
    """Of the product's result, from its end: -1 for a MatMul's, and 1 for a convolution's [batch, channel, …]."""


def biases(model: ModelProto) -> dict[str, Bias]:
    """Return where each product's bias is, by the product's name; those whose bias cannot be corrected are left out.

    A MatMul has its bias in the addition of a constant that alone reads it.
    """
    constants = graphs.constant_arrays(model)
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in control_flow.read_by(node):
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            present = node.input[2] if len(node.input) > 2 else None
            if present is None or present in constants:
                found[node.name] = Bias(node.name, 2, present, 1)
        elif node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] in constants:
            scaled = any(one.name == "beta" and helper.get_attribute_value(one) != 1 for one in node.attribute)
            if constants[node.input[2]].ndim == 1 and not scaled:
                found[node.name] = Bias(node.name, 2, node.input[2], -1)
        elif node.op_type == "MatMul" and node.output[0] not in outputs:
            reading = readers.get(node.output[0], [])
            if len(reading) == 1 and reading[0].op_type == "Add":
                other = 1 if reading[0].input[0] == node.output[0] else 0
                added = reading[0].input[other]
                if added in constants and constants[added].ndim == 1:
                    found[node.name] = Bias(reading[0].name, other, added, -1)
    return found


def corrected(model: ModelProto, shifts: Mapping[str, Floats]) -> ModelProto:
    """Subtract from the bias of each product named what its channels are shifted by; the model is changed in place."""
    constants, known = graphs.constant_arrays(model), biases(model)
    by_name = {node.name: node for node in model.graph.node}
    for product, shift in shifts.items():
        bias = known[product]
        holder, fresh = by_name[bias.node], f"{product}/corrected"
        before = np.float32(0) if bias.name is None else constants[bias.name]
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(before - shift, np.float32), fresh))
        if bias.name is None:
            holder.input.append(fresh)
        else:
            holder.input[bias.operand] = fresh
    return model
