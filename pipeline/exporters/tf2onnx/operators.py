"""TensorFlow's operators that tf2onnx 1.17 cannot convert, each by ONNX's own; signals and images have theirs."""

import numpy as np
from onnx import TensorProto

from pipeline.exporters.tf2onnx.replacement import Handler, Replacement


def erfc(new: Replacement) -> None:
    """1 - erf(x): the exact GELU, Keras's default (https://github.com/onnx/tensorflow-onnx/issues/2347)."""
    new.result("Sub", new.constant(1), new.node("Erf", new.inputs[0]))


def expm1(new: Replacement) -> None:
    """exp(x) - 1: celu."""
    new.result("Sub", new.node("Exp", new.inputs[0]), new.constant(1))


def log1p(new: Replacement) -> None:
    """log(1 + x): log1p, logaddexp."""
    new.result("Log", new.node("Add", new.inputs[0], new.constant(1)))


def bitcast(new: Replacement) -> None:
    """The sign bit of a float, which is what Keras's signbit, argmax and argmin look at the bits for.

    They `and` the bits with the sign bit's mask. So the bits are given as the mask where x < 0 or 1 / x < 0 (x = -0),
    and as 0 elsewhere; whoever else reads them is refused.
    """
    mask = np.iinfo(np.int32).min
    for reader in new.readers():
        constants = [each for each in reader.inputs if each.is_const()]
        if reader.type != "BitwiseAnd" or [each.get_tensor_value() for each in constants] != [mask]:
            raise NotImplementedError("Bitcast for anything but the sign of a number")
        reader.type = "Identity"
        reader.graph.replace_inputs(reader, [name for name in reader.input if name != constants[0].output[0]])
        reader.skip_conversion = True
    zero = new.constant(0, np.float32)
    below = new.node("Less", new.inputs[0], zero)
    minus_zero = new.node("Less", new.node("Reciprocal", new.inputs[0]), zero)
    new.result("Where", new.node("Or", below, minus_zero), new.constant(mask), new.constant(0))


def bucketize(new: Replacement) -> None:
    """How many boundaries are at most x: Discretization (https://github.com/onnx/tensorflow-onnx/issues/1158)."""
    boundaries = new.constant(new.attribute("boundaries"), np.float32)
    number = new.inputs[0]
    if new.input_type() != TensorProto.FLOAT:
        number = new.node("Cast", number, to=TensorProto.FLOAT)
    reached = new.node("GreaterOrEqual", new.node("Unsqueeze", number, new.axes(-1)), boundaries)
    counted = new.node("Cast", reached, to=TensorProto.INT32)
    new.result("ReduceSum", counted, new.axes(-1), keepdims=0)


def lower_bound(new: Replacement) -> None:
    """How many of a row's sorted numbers are less than x: searchsorted from the left."""
    _bound(new, "Less")


def upper_bound(new: Replacement) -> None:
    """How many of a row's sorted numbers are at most x: searchsorted from the right."""
    _bound(new, "LessOrEqual")


def _bound(new: Replacement, comparison: str) -> None:
    rows = new.node("Unsqueeze", new.inputs[0], new.axes(-2))  # [rows, 1, numbers]
    values = new.node("Unsqueeze", new.inputs[1], new.axes(-1))  # [rows, values, 1]
    counted = new.node("Cast", new.node(comparison, rows, values), to=new.elem_type)
    new.result("ReduceSum", counted, new.axes(-1), keepdims=0)


def dense_bincount(new: Replacement) -> None:
    """How often each small integer occurs in a row, or whether: CategoryEncoding.

    tf2onnx has a conversion of its own, by Unique, which TensorRT lacks.
    """
    weights = new.input_shape(2)
    if weights != [0]:
        raise NotImplementedError("DenseBincount with weights")
    # In the types for which ONNX Runtime has the operator.
    numbers, depth = (new.node("Cast", name, to=TensorProto.INT64) for name in new.inputs[:2])
    depth = new.node("Reshape", depth, new.axes(-1))
    hot = new.node("OneHot", numbers, depth, new.constant([0, 1], np.float32), axis=-1)
    counted = new.node("ReduceMax" if new.attribute("binary_output", 0) else "ReduceSum", hot, new.axes(-2), keepdims=0)
    new.result("Cast", counted, to=new.elem_type)


def broadcast_args(new: Replacement) -> None:
    """The shape that two shapes of one rank broadcast to."""
    if new.input_shape(0) != new.input_shape(1):
        raise NotImplementedError("BroadcastArgs of shapes of different ranks")
    new.result("Max", *new.inputs)


def cross(new: Replacement) -> None:
    """The cross product of vectors in the last dimension: aᵢ₊₁ bᵢ₊₂ - aᵢ₊₂ bᵢ₊₁."""
    following, last = new.axes(1, 2, 0), new.axes(2, 0, 1)
    one, other = (
        new.node(
            "Mul", new.node("Gather", new.inputs[0], first, axis=-1), new.node("Gather", new.inputs[1], second, axis=-1)
        )
        for first, second in ((following, last), (last, following))
    )
    new.result("Sub", one, other)


HANDLERS: dict[str, Handler] = {
    "Bitcast": bitcast,
    "BroadcastArgs": broadcast_args,
    "Bucketize": bucketize,
    "Cross": cross,
    "DenseBincount": dense_bincount,
    "Erfc": erfc,
    "Expm1": expm1,
    "Log1p": log1p,
    "LowerBound": lower_bound,
    "UpperBound": upper_bound,
}
