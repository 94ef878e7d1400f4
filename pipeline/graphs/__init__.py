"""Reading ONNX graphs: their inputs and outputs, their constants, and the types of their tensors."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from pipeline.errors import BuildError
from pipeline.graphs import control_flow, files
from pipeline.graphs.weights import is_large, with_weights, without_weights
from pipeline.tensors import TensorSpec

NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2)
"""The types narrower than FP32 in which numbers are computed, or stored to be dequantised."""


def load(model: Path | bytes, sha256: str | None = None, *, weights: bool = True) -> onnx.ModelProto:
    """Read an ONNX model, from a file or from its bytes.

    Args:
        model: the file, or the bytes of one that has its weights in it.
        sha256: the digest that the file must have.
        weights: whether those that are in a file beside it are wanted.

    Raises:
        ArtifactError: as `files.load`.
    """
    if isinstance(model, bytes):
        return files.parse(model, Path("what was given"))
    return files.load(model, sha256, weights=weights)


def check(model: onnx.ModelProto, what: str) -> None:
    """Run the ONNX checker in full, with strict shape inference.

    Raises:
        BuildError: with the checker's words.
    """
    try:
        for tensor in filter(is_large, model.graph.initializer):
            onnx.checker.check_tensor(tensor)
        onnx.checker.check_model(without_weights(model), full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
    ) as error:  # ValueError: a type
        raise BuildError(f"{what}: the ONNX checker rejects the graph: {error}") from error


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor, kind = value.type.tensor_type, value.type.WhichOneof("value")
    if kind != "tensor_type" or tensor.elem_type not in helper.get_all_tensor_dtypes():
        named = f"a {(kind or 'nothing').removesuffix('_type')}" if kind != "tensor_type" else "of no type of ONNX's"
        raise BuildError(f"the graph's {value.name!r} is {named}, and not a tensor of numbers", "Export it anew.")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return TensorSpec(value.name, shape, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)))


def inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the graph's inputs, without initializers that older exporters list among them.

    Raises:
        BuildError: one is no tensor of a type of ONNX's, as a sequence.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    return tuple(_spec(value) for value in model.graph.input if value.name not in initializers)


def outputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the graph's outputs; errors as `inputs`."""
    return tuple(_spec(value) for value in model.graph.output)


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the types and shapes of all its tensors, those in bodies too, as far as ONNX knows them.

    Raises:
        BuildError: with ONNX's words.
    """
    return with_weights(outline(model), model)


def outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return what `inferred` does, its weights as inputs without content: for who looks at it and does not run it.

    Raises:
        BuildError: with ONNX's words.
    """
    try:
        return onnx.shape_inference.infer_shapes(without_weights(model), strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise BuildError(f"ONNX cannot tell the types of the graph's tensors: {error}") from error


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return every tensor's element type (onnx.TensorProto.DataType), by shape inference; bodies are left out."""
    return control_flow.element_types(outline(model).graph)


def constant_arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the graph's constants by name: its initializers, and what its Constant nodes hold as a tensor."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in found.items()}


def narrowed_by(model: onnx.ModelProto) -> list[str]:
    """Return the narrow types and the operators by which a graph shows that it does not compute in FP32 alone.

    Inputs and outputs that are cast at the border are no sign, nor are weights that are stored in 16 bits and cast.
    """
    return sorted(set(_narrowed(outline(model).graph, {})))


def _narrowed(graph: onnx.GraphProto, around: dict[str, int]) -> Iterator[str]:
    types = control_flow.element_types(graph, around)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield node.op_type
        if node.op_type not in ("Cast", "Constant"):
            kinds = {types.get(name) for name in (*node.input, *node.output)}
            yield from (TensorProto.DataType.Name(kind) for kind in NARROW if kind in kinds)
        for body in control_flow.bodies(node):
            yield from _narrowed(body, types)


def without_default_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the constants off the list of inputs, where ONNX had to list them before IR version 4; return the model."""
    names = {tensor.name for tensor in model.graph.initializer}
    listed = [value for value in model.graph.input if value.name in names]
    for value in listed:
        model.graph.input.remove(value)
    if listed:
        model.ir_version = max(model.ir_version, 4)
    return model


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy to be changed in place, its constants not among the inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return without_default_inputs(copy)


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a name of its own to every node of the graph that has none, or one that others have too; return the model.

    Layers are kept in FP32, and errors told, by names of nodes; ONNX asks for none. The model is changed in place.
    """
    counts = Counter(node.name for node in model.graph.node)
    taken = set(counts)
    for number, node in enumerate(model.graph.node):
        if not node.name or counts[node.name] > 1:
            fresh = f"{node.name or node.op_type}_{number}"
            while fresh in taken:
                fresh += "_"
            node.name = fresh
            taken.add(fresh)
    return model


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
        raised = with_weights(version_converter.convert_version(without_weights(model), least), model)
    except Exception as error:  # RuntimeError, ConvertError, InferenceError and ValueError have been seen
        raise BuildError(f"ONNX cannot raise the graph to operator set {least}: {error}") from error
    raised.ir_version = max(raised.ir_version, helper.find_min_ir_version_for(raised.opset_import))
    return raised
