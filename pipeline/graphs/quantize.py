"""Quantising a graph's products explicitly: QuantizeLinear and DequantizeLinear around what they multiply.

ONNX Runtime's quantizer (quantization/qdq_quantizer.py, 1.26) hands the dequantised tensor to everyone who reads it: in
ResNet50 to 12 residual additions, and to nodes that it was to leave out. Its FP8 scales come from the spread of the
integers 0 to 255 (73.9) instead of that of E4M3's numbers (100.1). Hence this one; for INT8 a test holds it to ONNX
Runtime's scales and weights, bit by bit.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pipeline import graphs
from pipeline.errors import BuildError
from pipeline.graphs import arithmetic, control_flow

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Format:
    """An 8-bit format, symmetric around zero: x is stored as the number nearest to x / scale, cut at ± `largest`."""

    elem_type: int
    largest: float
    opset: int = 0
    """The first operator set in which QuantizeLinear knows it."""

    def scale(self, amax: Floats, kind: Any = np.float32) -> Floats:
        """Return amax / largest, so that amax itself becomes the largest number stored; 1 where that is no number.

        Where the graph has its scales in a narrower type, `kind`, it is rounded up to the next number of that one: so
        a weight is stored by the very scale that brings it back, and amax is never cut.
        """
        scale = np.asarray(amax / np.float32(self.largest), np.float32)
        if np.dtype(kind) != np.float32:
            rounded = np.minimum(scale, np.float32(ml_dtypes.finfo(kind).max)).astype(kind)
            above = np.nextafter(rounded, np.array(np.inf, kind))
            scale = np.where(rounded.astype(np.float32) < scale, above, rounded).astype(np.float32)
        return np.where((scale >= np.finfo(np.float32).tiny) & np.isfinite(scale), scale, np.float32(1))

    def encode(self, array: Floats, scale: Floats) -> NDArray[Any]:
        """Return the stored numbers; `scale` broadcasts against `array`."""
        cut = np.clip(array / scale, -np.float32(self.largest), np.float32(self.largest))
        # A cast to an integer truncates; the one to FP8 rounds to nearest even.
        stored: NDArray[Any] = (np.rint(cut) if self.elem_type == TensorProto.INT8 else cut).astype(self.dtype)
        return stored

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type of the stored numbers."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.elem_type))


INT8 = Format(TensorProto.INT8, 127)
FP8 = Format(TensorProto.FLOAT8E4M3FN, float(ml_dtypes.finfo(ml_dtypes.float8_e4m3fn).max), opset=19)  # 448


def reaches(product: arithmetic.Product) -> bool:
    """Tell whether a product can be quantised: one of two operands, outside the bodies of Loop, Scan and If.

    A Loop's operands have no one range: they change from round to round, and calibration sees the graph's own tensors.
    """
    return product.node.op_type in arithmetic.PRODUCTS and not product.inside


def operands(node: NodeProto, types: Mapping[str, int]) -> tuple[int, ...]:
    """Return which inputs of a node can be quantised: both operands of an FP32 product, and never the bias.

    `types` are the element types of the graph's tensors.
    """
    return (0, 1) if node.op_type in arithmetic.PRODUCTS and types[node.input[0]] == TensorProto.FLOAT else ()


def activations(model: ModelProto) -> tuple[str, ...]:
    """Return the names of the products' operands whose range calibration must find, in the graph's order."""
    types = graphs.element_types(model)
    constants = graphs.constant_arrays(model)
    names = (node.input[i] for node in model.graph.node for i in operands(node, types))
    return tuple(dict.fromkeys(name for name in names if name not in constants))


def quantise(
    model: ModelProto,
    form: Format,
    amax: Mapping[str, float],
    leave: Collection[str] = (),
    also: Mapping[str, int] | None = None,
    scales: Any = np.float32,
) -> ModelProto:
    """Return the FP32 graph with both operands of every Conv, ConvTranspose, Gemm and MatMul quantised, but no bias.

    Weights are stored quantised, with a scale per output channel. Activations have one scale, from `amax`, the largest
    magnitude that is to be represented. Nodes named in `leave`, the bodies of Loop, Scan and If, and whatever else
    reads a tensor, read it as it was, but for the nodes in `also`, of whose inputs the one of that number is quantised.
    `scales` is the type that the scales will have. The model is changed in place.

    Raises:
        BuildError: `amax` lacks an activation.
    """
    graph = model.graph
    types = graphs.element_types(model)
    constants = graphs.constant_arrays(model)
    made: dict[tuple[str, int | None], str] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        more = (also[node.name],) if also and node.name in also else ()
        for i in more or (() if node.name in leave else operands(node, types)):
            name = node.input[i]
            axis = channel_axis(node, i, constants[name].ndim) if name in constants else None
            if (name, axis) not in made:
                if name in constants:
                    nodes.append(_stored(model, form, name, constants[name], axis, scales))
                elif name in amax:
                    nodes += _measured(model, form, name, amax[name], scales)
                else:
                    raise BuildError(f"calibration has no range for {name!r}", "Calibrate this very graph.")
                made[name, axis] = nodes[-1].output[0]
            node.input[i] = made[name, axis]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    read = set(control_flow.reads(graph))
    initializers = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    return model


def channel_axis(node: NodeProto, operand: int, rank: int) -> int | None:
    """Return the axis of a weight that counts output channels; None where one scale must do for all of it."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if operand == 0:
        return None
    if node.op_type == "Conv":
        return 0  # [out, in / group, *kernel]
    if node.op_type == "ConvTranspose":
        return 1 if attributes.get("group", 1) == 1 else None  # [in, out / group, *kernel]
    if node.op_type == "Gemm":
        return 0 if attributes.get("transB") else 1
    return 1 if rank == 2 else None


def _stored(model: ModelProto, form: Format, name: str, array: Floats, axis: int | None, scales: Any) -> NodeProto:
    """Add a weight in its stored form, and return the node that brings it back."""
    others = tuple(i for i in range(array.ndim) if i != axis)
    amax = np.abs(array).max(axis=others, keepdims=True, initial=0)
    base = name if axis is None else f"{name}/axis{axis}"  # a tied weight may be read along both
    stored = form.encode(array, form.scale(amax, scales))
    model.graph.initializer.append(numpy_helper.from_array(stored, f"{base}/quantised"))
    parameters = _parameters(model, form, base, amax.reshape(() if axis is None else -1), scales)
    return _node("DequantizeLinear", f"{base}/quantised", f"{base}/dequantised", parameters, axis)


def _measured(model: ModelProto, form: Format, name: str, amax: float, scales: Any) -> list[NodeProto]:
    """Return the nodes that quantise an activation and bring it back."""
    parameters = _parameters(model, form, name, np.asarray(amax, np.float32), scales)
    return [
        _node("QuantizeLinear", name, f"{name}/quantised", parameters),
        _node("DequantizeLinear", f"{name}/quantised", f"{name}/dequantised", parameters),
    ]


def _parameters(model: ModelProto, form: Format, base: str, amax: Floats, scales: Any) -> list[str]:
    """Add a scale and a zero point of amax's shape, and return their names. TensorRT takes zero points of 0 only."""
    scale, zero = f"{base}/scale", f"{base}/zero_point"
    model.graph.initializer.append(numpy_helper.from_array(form.scale(amax, scales), scale))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(amax.shape, form.dtype), zero))
    return [scale, zero]


def _node(kind: str, source: str, result: str, parameters: list[str], axis: int | None = None) -> NodeProto:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    return helper.make_node(kind, [source, *parameters], [result], name=f"{result}/{kind}", **attributes)
