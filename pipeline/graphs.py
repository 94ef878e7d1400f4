"""Reading ONNX graphs: their inputs and outputs, and in which type their arithmetic is done."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pipeline.backends import TensorSpec
from pipeline.errors import ArtifactError, BuildError

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


def compute_types(model: onnx.ModelProto) -> dict[str, int]:
    """Count the multiply-accumulating nodes by the type of their operands, as `{"FLOAT16": 2}`."""
    types = element_types(model)
    names = (onnx.TensorProto.DataType.Name(types[node.input[0]]) for node in compute_nodes(model))
    return dict(Counter(names))


def initializer_arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the graph's constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
