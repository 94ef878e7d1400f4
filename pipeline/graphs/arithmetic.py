"""How much of an ONNX graph computes in which type: its multiply-accumulates, counted and by type."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import prod

import onnx
from onnx import NodeProto, TensorProto

from pipeline import graphs
from pipeline.artifacts.engine import GraphArithmetic

COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that do multiply-accumulates, and so decide a graph's precision."""


def compute_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that do multiply-accumulates."""
    return (node for node in model.graph.node if node.op_type in COMPUTE_OPS)


def typed_products(model: onnx.ModelProto) -> Iterator[tuple[NodeProto, str]]:
    """Yield the multiply-accumulating nodes, each with the type in which TensorRT computes it.

    That is the operands' type as it stands, but where both come straight from a DequantizeLinear of one type, that
    type: TensorRT computes such a node on the stored numbers.
    """
    types = graphs.element_types(model)
    stored = {node.output[0]: types[node.input[0]] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in compute_nodes(model):
        kinds = {stored.get(name, types[node.input[0]]) for name in node.input[:2]}
        kind = kinds.pop() if len(kinds) == 1 else types[node.input[0]]
        yield node, TensorProto.DataType.Name(kind)


def summary(model: onnx.ModelProto) -> GraphArithmetic:
    """Say how much of a graph computes in which type.

    `compute_nodes` counts the multiply-accumulating nodes by type, `mac_share` the share of their multiply-accumulates
    for one sample; None where a dimension other than the batch is dynamic. `casts`, `quantize` and `dequantize` count
    the nodes that convert.
    """
    products = list(typed_products(model))
    macs = multiply_accumulates(products, shapes(model))
    operators = Counter(node.op_type for node in model.graph.node)
    return GraphArithmetic(
        nodes=len(model.graph.node),
        compute_nodes=dict(Counter(kind for _, kind in products)),
        mac_share=None if macs is None else {kind: count / macs.total() for kind, count in macs.items()},
        casts=operators["Cast"],
        quantize=operators["QuantizeLinear"],
        dequantize=operators["DequantizeLinear"],
    )


def multiply_accumulates(
    products: Iterable[tuple[NodeProto, str]], known: Mapping[str, tuple[int, ...] | None]
) -> Counter[str] | None:
    """Count the multiply-accumulates of `typed_products` by type, the tensors' shapes being those of `shapes`.

    None where the shape of one of them is unknown.
    """
    macs: Counter[str] = Counter()
    for node, kind in products:
        count = _multiply_accumulates(node, known)
        if count is None:
            return None
        macs[kind] += count
    return macs


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...] | None]:
    """Return every tensor's shape for a batch of one, or its fixed one; None where that leaves a dimension unknown."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in single.graph.input:
        for dim in value.type.tensor_type.shape.dim[:1]:
            dim.dim_value = dim.dim_value or 1
    graph = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    found: dict[str, tuple[int, ...] | None] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        known = value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims)
        found[value.name] = tuple(dim.dim_value for dim in dims) if known else None
    return found


def _multiply_accumulates(node: NodeProto, known: Mapping[str, tuple[int, ...] | None]) -> int | None:
    """Count a node's multiply-accumulates; None where a shape is unknown."""
    left, right, result = (known.get(name) for name in (*node.input[:2], node.output[0]))
    if left is None or right is None or result is None:
        return None
    if node.op_type == "Conv":
        return prod(result) * prod(right[1:])  # weights [out, in / group, *kernel]: one such block a result
    if node.op_type == "ConvTranspose":
        return prod(left) * prod(right[1:])  # weights [in, out / group, *kernel]: each input meets one such block
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(result) * left[0 if transposed else -1]  # [..., m, k] by [..., k, n]
