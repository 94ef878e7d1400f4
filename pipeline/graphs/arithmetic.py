"""How much of an ONNX graph computes in which type: its multiply-accumulates, counted and by type."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import NamedTuple

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from pipeline import graphs
from pipeline.artifacts.engine import GraphArithmetic
from pipeline.graphs import control_flow
from pipeline.graphs.weights import without_weights

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that multiply two operands, and do nothing else but add a bias."""

RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
"""The operators that multiply each step of a sequence, and the state, by weights."""

COMPUTE_OPS = PRODUCTS | RECURRENT | {"Einsum"}
"""The operators that do multiply-accumulates, and so decide a graph's precision."""

FLOATS = (TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Product(NamedTuple):
    """A multiply-accumulating node, the type in which TensorRT computes it, and the graph's own node it is inside of.

    `home` is the node itself, but for one in a body, whose home is the Loop, Scan or If.
    """

    node: NodeProto
    kind: str
    home: NodeProto

    @property
    def inside(self) -> str:
        """The operator in whose body the node is; empty where in none."""
        return "" if self.home.op_type == self.node.op_type else self.home.op_type


def compute_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that do multiply-accumulates, but for those in bodies."""
    return (node for node in model.graph.node if node.op_type in COMPUTE_OPS)


def typed_products(model: onnx.ModelProto) -> Iterator[Product]:
    """Yield the nodes that multiply and accumulate floating-point numbers, each with the type TensorRT computes it in.

    That is the operands' type as it stands, but where both come straight from a DequantizeLinear of one type, that
    type: TensorRT computes such a node on the stored numbers.
    """
    return _typed_products(graphs.outline(model).graph, {}, None)


def _typed_products(graph: GraphProto, around: Mapping[str, int], home: NodeProto | None) -> Iterator[Product]:
    types = control_flow.element_types(graph, around)
    stored = {node.output[0]: types[node.input[0]] for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type in COMPUTE_OPS and types.get(node.input[0]) in FLOATS:
            kinds = {stored.get(name, types[node.input[0]]) for name in node.input[:2]}
            kind = kinds.pop() if len(kinds) == 1 else types[node.input[0]]
            yield Product(node, TensorProto.DataType.Name(kind), home or node)
        for body in control_flow.bodies(node):
            yield from _typed_products(body, types, home or node)


CONVERTING = frozenset({"Cast", "Constant", "DequantizeLinear", "QuantizeLinear"})
"""Operators that compute nothing: they bring numbers from one type into another."""


def computing(model: onnx.ModelProto) -> Iterator[tuple[NodeProto, str]]:
    """Yield the nodes of the graph, not of bodies, that do not just convert, with the float type of their result."""
    types = graphs.element_types(model)
    for node in model.graph.node:
        results = [types[name] for name in node.output if types.get(name) in FLOATS]
        if results and node.op_type not in CONVERTING:
            yield node, TensorProto.DataType.Name(results[0])


def traffic(model: onnx.ModelProto, known: Mapping[str, tuple[int, ...] | None]) -> dict[str, int] | None:
    """Return how many bytes of each type the graph's nodes read and write for one sample, but those that just convert.

    A node that reads what was dequantised is counted with the stored numbers, which TensorRT has it read. None where
    the shape of a tensor is unknown, or a node has a body.
    """
    types = graphs.element_types(model)
    stored = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    quantised = set(stored.values())
    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in CONVERTING:
            continue
        for name in filter(None, (*(stored.get(name, name) for name in node.input), *node.output)):
            shape = known.get(name)
            if shape is None or name not in types or any(control_flow.bodies(node)):
                return None
            if types[name] in FLOATS or name in quantised:
                found[TensorProto.DataType.Name(types[name])] += prod(shape) * _bytes(types[name])
    return dict(found)


def _bytes(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def summary(model: onnx.ModelProto) -> GraphArithmetic:
    """Say how much of a graph computes in which type.

    `compute_nodes` counts the multiply-accumulating nodes by type, `mac_share` the share of their multiply-accumulates
    for one sample; None where a dimension other than the batch is dynamic, or a product is in a body: how often that
    is run, the graph need not say. `casts`, `quantize` and `dequantize` count the nodes that convert.
    """
    products, known = list(typed_products(model)), shapes(model)
    macs = multiply_accumulates(products, known)
    operators = Counter(node.op_type for node, _ in control_flow.walk(model.graph))
    kinds = Counter(kind for _, kind in computing(model))
    return GraphArithmetic(
        nodes_by_type=dict(sorted(kinds.items())),
        bytes_by_type=traffic(model, known),
        nodes=operators.total(),
        compute_nodes=dict(Counter(product.kind for product in products)),
        mac_share=None if macs is None else {kind: count / macs.total() for kind, count in macs.items() if count},
        casts=operators["Cast"],
        quantize=operators["QuantizeLinear"],
        dequantize=operators["DequantizeLinear"],
    )


def multiply_accumulates(
    products: Iterable[Product], known: Mapping[str, tuple[int, ...] | None]
) -> Counter[str] | None:
    """Count the multiply-accumulates of `typed_products` by type, the tensors' shapes being those of `shapes`.

    None where the shape of one of them is unknown, or one is in a body.
    """
    macs: Counter[str] = Counter()
    for product in products:
        count = None if product.inside else _multiply_accumulates(product.node, known)
        if count is None:
            return None
        macs[product.kind] += count
    return macs


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...] | None]:
    """Return every tensor's shape for a batch of one, or its fixed one; None where that leaves a dimension unknown."""
    single = without_weights(model)
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
    operands = [known.get(name) for name in node.input if name]
    sizes = [shape for shape in (*operands[:2], known.get(node.output[0])) if shape is not None]
    if node.op_type == "Einsum":
        return _of_einsum(node, operands)
    if node.op_type in RECURRENT:
        steps, *weights = operands[:3]  # steps [time, batch, in], weights [directions, gates * hidden, in or hidden]
        if steps is None or None in weights:
            return None
        return prod(steps[:2]) * sum(prod(shape or ()) for shape in weights)
    if len(sizes) < 3:
        return None
    left, right, result = sizes
    if node.op_type == "Conv":
        return prod(result) * prod(right[1:])  # weights [out, in / group, *kernel]: one such block a result
    if node.op_type == "ConvTranspose":
        return prod(left) * prod(right[1:])  # weights [in, out / group, *kernel]: each input meets one such block
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(result) * left[0 if transposed else -1]  # [..., m, k] by [..., k, n]


def _of_einsum(node: NodeProto, operands: list[tuple[int, ...] | None]) -> int | None:
    """Count one multiplication less than there are operands for each combination of all indices."""
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if None in operands or "..." in equation:
        return None
    sizes = {
        index: size
        for term, shape in zip(terms, operands, strict=True)
        for index, size in zip(term, shape or (), strict=True)
    }
    return prod(sizes.values()) * (len(terms) - 1)
