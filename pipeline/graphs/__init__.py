"""Reading ONNX graphs: their inputs and outputs, and in which type their arithmetic is done."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, version_converter

from pipeline.errors import ArtifactError, BuildError
from pipeline.tensors import TensorSpec

COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that do multiply-accumulates, and so decide a graph's precision."""


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX model.

    Raises:
        ArtifactError: the file is not there or is no ONNX model.
    """
    try:
        return onnx.load(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist", "Run `make export engine`.") from error
    except Exception as error:  # protobuf's DecodeError, of which each protobuf implementation has its own
        raise ArtifactError(f"{path} is not a readable ONNX model: {error}", "Run `make export engine`.") from error


def check(model: onnx.ModelProto, what: str) -> None:
    """Run the ONNX checker in full, with strict shape inference.

    Raises:
        BuildError: with the checker's words.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"{what}: the ONNX checker rejects the graph: {error}") from error


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return TensorSpec(value.name, shape, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)))


def inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs, without initializers that older exporters list among them."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    return tuple(_spec(value) for value in model.graph.input if value.name not in initializers)


def outputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the graph's outputs."""
    return tuple(_spec(value) for value in model.graph.output)


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return every tensor's element type (onnx.TensorProto.DataType), by shape inference."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def compute_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that do multiply-accumulates."""
    return (node for node in model.graph.node if node.op_type in COMPUTE_OPS)


def initializer_arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the graph's constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def narrowed_by(model: onnx.ModelProto) -> list[str]:
    """Return the types and operators in a graph that only a rewrite brings there, or a model not trained in FP32."""
    narrow = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2)
    kinds = {TensorProto.DataType.Name(kind) for kind in element_types(model).values() if kind in narrow}
    return sorted(kinds | ({"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in model.graph.node}))


def raise_opset(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """Return the model at operator set `least`, or as it is where it is there already.

    ONNX's converter knows which operators changed their meaning on the way (GroupNormalization, GridSample). It leaves
    the IR version behind, which is raised to the one that goes with the operator set.

    Raises:
        BuildError: ONNX has no way to raise one of the operators, in its words.
    """
    if opset(model) >= least:
        return model
    try:
        raised = version_converter.convert_version(model, least)
    except Exception as error:  # RuntimeError, ConvertError, InferenceError and ValueError have been seen
        raise BuildError(f"ONNX cannot raise the graph to operator set {least}: {error}") from error
    raised.ir_version = max(raised.ir_version, helper.find_min_ir_version_for(raised.opset_import))
    return raised


def typed_products(model: onnx.ModelProto) -> Iterator[tuple[NodeProto, str]]:
    """Yield the multiply-accumulating nodes, each with the type in which TensorRT computes it.

    That is the operands' type as it stands, but where both come straight from a DequantizeLinear of one type, that
    type: TensorRT computes such a node on the stored numbers.
    """
    types = element_types(model)
    stored = {node.output[0]: types[node.input[0]] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in compute_nodes(model):
        kinds = {stored.get(name, types[node.input[0]]) for name in node.input[:2]}
        kind = kinds.pop() if len(kinds) == 1 else types[node.input[0]]
        yield node, TensorProto.DataType.Name(kind)


def census(model: onnx.ModelProto) -> dict[str, Any]:
    """Tell how much of a graph computes in which type.

    `compute_nodes` counts the multiply-accumulating nodes by type, `mac_share` the share of their multiply-accumulates
    for one sample; None where a dimension other than the batch is dynamic. `casts`, `quantize` and `dequantize` count
    the nodes that convert.
    """
    products = list(typed_products(model))
    macs = multiply_accumulates(products, shapes(model))
    operators = Counter(node.op_type for node in model.graph.node)
    return {
        "nodes": len(model.graph.node),
        "compute_nodes": dict(Counter(kind for _, kind in products)),
        "mac_share": None if macs is None else {kind: count / macs.total() for kind, count in macs.items()},
        "casts": operators["Cast"],
        "quantize": operators["QuantizeLinear"],
        "dequantize": operators["DequantizeLinear"],
    }


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
