"""Which products are worth quantising, and which additions read a quantised tensor, by what TensorRT runs faster.

The rules are those of NVIDIA Model Optimizer 0.47 (modelopt/onnx/quantization: graph_utils.py and partitioning.py),
taken over as facts; each says in one line what a product is left out for. Where a dimension is dynamic nothing is left
out for it: the batch least of all, which their tool takes for 1.
"""

from collections.abc import Collection, Mapping
from math import prod
from typing import Literal, NamedTuple

from onnx import ModelProto, NodeProto, TensorProto, helper

from pipeline import graphs
from pipeline.graphs import arithmetic, control_flow
from pipeline.graphs.quantize import INT8, Format, operands

Placement = Literal["tensorrt", "all"]

LEAST = 16
"""Below so many channels, or columns, 8-bit kernels are no faster (find_nodes_from_convs_to_exclude, …_matmul_…)."""

LONGEST = 512
"""The longest sequence whose attention is quantised in INT8 (find_nodes_from_mha_to_exclude)."""

LARGEST_FILTER = 32
"""The largest filter of a convolution in FP8: 5 × 5 is within, 6 × 6 is not."""

Shapes = Mapping[str, tuple[int, ...] | None]


def left_out(model: ModelProto, form: Format) -> dict[str, str]:
    """Return the products of an FP32 graph that are not worth quantising, by the node's name, and why."""
    types, known = graphs.element_types(model), arithmetic.shapes(model)
    constants = {tensor.name for tensor in model.graph.initializer} | {
        node.output[0] for node in model.graph.node if node.op_type == "Constant"
    }
    batched = any(spec.shape and spec.shape[0] is None for spec in graphs.inputs(model))
    found = {}
    for node in model.graph.node:
        if not operands(node, types):
            continue
        if node.op_type == "Conv":
            why = _convolution(node, form, known, constants)
        elif node.op_type in ("Gemm", "MatMul"):
            why = _matmul(node, form, known, constants, batched)
        else:
            why = ""
        if why:
            found[node.name] = why
    return found


def _convolution(node: NodeProto, form: Format, known: Shapes, constants: Collection[str]) -> str:
    weights = known.get(node.input[1])
    if node.input[1] not in constants or weights is None:
        return "its weights are no constant"
    (out, per_group, *kernel), group = weights, _attribute(node, "group", 1)
    if form is not INT8:
        if out <= LEAST or per_group <= LEAST:
            return f"{min(out, per_group)} channels: FP8 convolutions pay from {LEAST + 1} on"
        size = prod(kernel)
        return f"a filter of {size}: FP8 convolutions pay up to {LARGEST_FILTER}" if size > LARGEST_FILTER else ""
    if out >= LEAST and per_group >= LEAST:
        return ""
    if group == 1 and len(set(kernel)) == 1 and not (out % 8 and per_group % 8) and max(out, per_group) >= LEAST:
        return ""  # as the first convolution of an image is
    if group > 1 and not out % 8 and min(kernel, default=1) >= 3:
        return ""  # depthwise
    few = f"{min(out, per_group)} channels{' in a group' if group > 1 else ''}"
    return f"{few}: INT8 convolutions pay from {LEAST} on"


def _matmul(node: NodeProto, form: Format, known: Shapes, constants: Collection[str], batched: bool) -> str:
    right, result = known.get(node.input[1]), known.get(node.output[0])
    if right is None or len(right) < 2:
        return ""
    inner, columns = right[-2:] if not _attribute(node, "transB", 0) else (right[-1], right[-2])
    if min(inner, columns) < LEAST:
        which = "columns" if columns < LEAST else "rows"
        return f"{min(inner, columns)} {which} of weights: 8-bit products of matrices pay from {LEAST} on"
    stored = node.input[1] in constants or node.input[0] in constants
    if result is None:
        return ""
    if not stored and 1 in result[-2:]:
        return "a matrix times a vector: reading it takes longer than multiplying"
    if not stored and form is INT8 and max(inner, *result[-2:]) > LONGEST:
        return f"attention over {max(inner, *result[-2:])}: INT8 pays up to {LONGEST}"
    if stored and not batched and len(result) < 3 and 1 in result:
        return "a matrix times a vector: reading it takes longer than multiplying"
    return ""


def _attribute(node: NodeProto, name: str, default: int) -> int:
    found = (int(helper.get_attribute_value(one)) for one in node.attribute if one.name == name)
    return next(found, default)


class Residual(NamedTuple):
    """An addition that fuses with the convolution before it, if its other operand is of 8 bits."""

    node: str
    operand: int
    """Which input is to be quantised."""


def residuals(model: ModelProto, left: Collection[str]) -> list[Residual]:
    """Return the additions of two activations of which one comes from a quantised convolution that nobody else reads.

    TensorRT then adds in the convolution's kernel, and reads 8 bits of the other (partitioning.py). Where both come
    from such a convolution, the one further from the graph's inputs is fused. `left` are the products not quantised.
    """
    types = graphs.element_types(model)
    made = {name: node for node in model.graph.node for name in node.output if node.op_type != "Constant"}
    readers: dict[str, int] = {}
    for name in control_flow.reads(model.graph):
        readers[name] = readers.get(name, 0) + 1
    depth = _depths(model)
    found = []
    for node in model.graph.node:
        if node.op_type != "Add" or any(name not in made for name in node.input) or node.input[0] == node.input[1]:
            continue
        if types.get(node.output[0]) != TensorProto.FLOAT:
            continue
        fused = [
            i
            for i, name in enumerate(node.input)
            if made[name].op_type in ("Conv", "ConvTranspose")
            and readers[name] == 1
            and made[name].name not in left
            and operands(made[name], types)
        ]
        if fused:
            taken = max(fused, key=lambda i: depth[node.input[i]])
            found.append(Residual(node.name, 1 - taken))
    return found


def _depths(model: ModelProto) -> dict[str, int]:
    """Return how many nodes lie before each tensor, on the longest way."""
    depth: dict[str, int] = {}
    for node in model.graph.node:
        before = max((depth.get(name, 0) for name in control_flow.read_by(node)), default=0)
        depth |= dict.fromkeys(node.output, before + 1)
    return depth


def activations(model: ModelProto) -> tuple[str, ...]:
    """Return the names of the tensors whose range calibration must find, for any placement, in the graph's order."""
    types, constants = graphs.element_types(model), graphs.constant_arrays(model)
    added = {one.node for one in residuals(model, ())}
    names = (
        name
        for node in model.graph.node
        for name in ([node.input[i] for i in operands(node, types)] if node.name not in added else node.input)
    )
    return tuple(dict.fromkeys(name for name in names if name not in constants))
