"""Which products are worth quantising, and which addition reads 8 bits: as NVIDIA's rules say."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline import graphs
from pipeline.graphs import placement
from pipeline.graphs.quantize import FP8, INT8

node = helper.make_node


def graph(
    nodes: list[onnx.NodeProto],
    shape: tuple[Any, ...],
    constants: dict[str, tuple[int, ...]],
    batch: Any = "batch",
) -> onnx.ModelProto:
    """Return an FP32 graph from `x` [batch, *shape] to `y`, with random constants of these shapes."""
    draw = np.random.default_rng(0)
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(draw.normal(size=size).astype(np.float32), name) for name, size in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return graphs.inferred(model)


def convolution(out: int, per_group: int, kernel: tuple[int, int], group: int = 1) -> onnx.ModelProto:
    nodes = [node("Conv", ["x", "w"], ["y"], name="conv", group=group)]
    return graph(nodes, (per_group * group, 32, 32), {"w": (out, per_group, *kernel)})


@pytest.mark.parametrize(
    ("out", "per_group", "kernel", "group", "int8", "fp8"),
    [
        (32, 32, (3, 3), 1, "", ""),
        (32, 1, (3, 3), 1, "", "1 channels: FP8 convolutions pay from 17 on"),  # the article's, on grey images
        (64, 3, (7, 7), 1, "", "3 channels: FP8 convolutions pay from 17 on"),  # ResNet50's first
        (12, 3, (3, 3), 1, "3 channels: INT8 convolutions pay from 16 on", "3 channels"),
        (30, 3, (3, 3), 1, "3 channels", "3 channels"),  # no multiple of 8
        (32, 8, (1, 3), 1, "8 channels", "8 channels"),  # not square
        (32, 1, (3, 3), 32, "", "1 channels"),  # depthwise
        (32, 1, (1, 1), 32, "1 channels in a group: INT8 convolutions pay from 16 on", "1 channels"),
        (30, 1, (3, 3), 30, "1 channels in a group", "1 channels"),
        (16, 16, (3, 3), 1, "", "16 channels"),
        (32, 32, (5, 5), 1, "", ""),
        (32, 32, (6, 6), 1, "", "a filter of 36: FP8 convolutions pay up to 32"),
    ],
)
def test_convolutions(out: int, per_group: int, kernel: tuple[int, int], group: int, int8: str, fp8: str) -> None:
    model = convolution(out, per_group, kernel, group)
    for form, why in ((INT8, int8), (FP8, fp8)):
        found = placement.left_out(model, form)
        assert list(found) == (["conv"] if why else [])
        assert found.get("conv", "").startswith(why)


@pytest.mark.parametrize(
    ("operator", "shape", "weights", "batch", "why"),
    [
        ("MatMul", (64,), (64, 32), "batch", ""),
        ("MatMul", (64,), (64, 10), "batch", "10 columns of weights: 8-bit products of matrices pay from 16 on"),
        ("MatMul", (8,), (8, 32), "batch", "8 rows of weights"),
        ("Gemm", (64,), (64, 10), "batch", "10 columns of weights"),
        ("MatMul", (64,), (64, 32), 1, "a matrix times a vector"),  # a fixed batch of one
        ("MatMul", (64,), (64, 32), 4, ""),
        ("MatMul", (7, 64), (64, 32), 1, ""),
    ],
)
def test_products_by_weights(
    operator: str, shape: tuple[int, ...], weights: tuple[int, int], batch: Any, why: str
) -> None:
    model = graph([node(operator, ["x", "w"], ["y"], name="dense")], shape, {"w": weights}, batch)
    for form in (INT8, FP8):
        found = placement.left_out(model, form)
        assert list(found) == (["dense"] if why else [])
        assert found.get("dense", "").startswith(why)


def test_a_transposed_weight_is_read_as_it_is_multiplied() -> None:
    model = graph([node("Gemm", ["x", "w"], ["y"], name="dense", transB=1)], (64,), {"w": (10, 64)})
    assert placement.left_out(model, INT8) == {
        "dense": "10 columns of weights: 8-bit products of matrices pay from 16 on"
    }


@pytest.mark.parametrize(("length", "int8"), [(64, ""), (1024, "attention over 1024: INT8 pays up to 512")])
def test_attention_over_a_long_sequence_stays(length: int, int8: str) -> None:
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"], name="scores")]
    model = graph(nodes, (length, 64), {})
    assert placement.left_out(model, INT8) == ({"scores": int8} if int8 else {})
    assert placement.left_out(model, FP8) == {}


def test_a_size_that_is_not_known_leaves_nothing_out() -> None:
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"], name="scores")]
    assert placement.left_out(graph(nodes, ("time", 64), {}), INT8) == {}


def residual(*, second: bool = False, read_twice: bool = False) -> onnx.ModelProto:
    """Return two convolutions and their sum with what goes into the first; with `second`, with a projection of it."""
    nodes = [
        node("Relu", ["x"], ["skip"], name="relu"),
        node("Conv", ["skip", "a"], ["inner"], name="first"),
        node("Conv", ["inner", "a"], ["main"], name="second"),
        *([node("Conv", ["skip", "b"], ["side"], name="projection")] if second else []),
        node("Add", ["side" if second else "skip", "main"], ["sum"], name="add"),
        node("Sub", ["sum", "main"], ["y"], name="twice") if read_twice else node("Relu", ["sum"], ["y"], name="last"),
    ]
    return graph(nodes, (32, 8, 8), {"a": (32, 32, 1, 1), "b": (32, 32, 1, 1)})


def test_the_other_operand_of_an_addition_after_a_convolution_is_quantised() -> None:
    assert placement.residuals(residual(), ()) == [("add", 0)]


def test_of_two_convolutions_the_longer_way_is_fused() -> None:
    assert placement.residuals(residual(second=True), ()) == [("add", 0)]


def test_an_addition_does_not_fuse_with_what_others_read_or_what_is_not_quantised() -> None:
    assert placement.residuals(residual(read_twice=True), ()) == []
    assert placement.residuals(residual(), {"second"}) == []
    assert placement.residuals(residual(second=True), {"second"}) == [("add", 1)]


def test_the_ranges_of_all_that_may_be_quantised_are_found() -> None:
    assert placement.activations(residual(second=True)) == ("skip", "inner", "side", "main")
