"""In which type a graph computes, how much of it, and how its operator set is raised."""

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipeline import graphs
from pipeline.errors import BuildError
from pipeline.graphs import arithmetic

node = helper.make_node


def model(nodes: list[NodeProto], shape: list[int | str], opset: int = 18, **constants: np.ndarray) -> onnx.ModelProto:
    """Return a graph from `x`, FLOAT of `shape`, to `y`."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("product", "shape", "weight", "macs"),
    [
        (node("Conv", ["x", "w"], ["y"]), ["n", 4, 8, 8], ones(6, 4, 3, 3), 6 * 6 * 6 * 4 * 9),
        (node("Conv", ["x", "w"], ["y"], group=2), ["n", 4, 8, 8], ones(6, 2, 3, 3), 6 * 6 * 6 * 2 * 9),
        (node("Conv", ["x", "w"], ["y"], strides=[2, 2]), ["n", 4, 9, 9], ones(6, 4, 3, 3), 6 * 4 * 4 * 4 * 9),
        (node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), ["n", 4, 8, 8], ones(4, 6, 3, 3), 4 * 64 * 6 * 9),
        (node("MatMul", ["x", "w"], ["y"]), ["n", 7, 5], ones(5, 3), 7 * 3 * 5),
        (node("Gemm", ["x", "w"], ["y"], transB=1), ["n", 5], ones(3, 5), 3 * 5),
        (node("Gemm", ["w", "x"], ["y"], transA=1), [5, 7], ones(5, 3), 3 * 7 * 5),
    ],
)
def test_multiply_accumulates_are_those_of_one_sample(
    product: NodeProto, shape: list[int | str], weight: np.ndarray, macs: int
) -> None:
    graph = model([product], shape, w=weight)
    assert arithmetic.multiply_accumulates(arithmetic.typed_products(graph), arithmetic.shapes(graph)) == {
        "FLOAT": macs
    }
    assert arithmetic.summary(graph).mac_share == {"FLOAT": 1.0}


def test_a_product_computes_in_the_type_its_operands_are_stored_in() -> None:
    graph = model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["stored", "s", "z"], ["w"]),
            node("MatMul", ["d", "w"], ["a"], name="both"),
            node("MatMul", ["a", "w"], ["b"], name="weight_only"),
            node("MatMul", ["b", "v"], ["y"], name="neither"),
        ],
        ["n", 4],
        s=np.float32(0.1),
        z=np.int8(0),
        stored=np.ones((4, 4), np.int8),
        v=ones(4, 8),
    )
    kinds = {product.node.name: product.kind for product in arithmetic.typed_products(graph)}
    assert kinds == {"both": "INT8", "weight_only": "FLOAT", "neither": "FLOAT"}
    counts = arithmetic.summary(graph)
    assert counts.compute_nodes == {"INT8": 1, "FLOAT": 2}
    assert counts.mac_share == {"INT8": 0.25, "FLOAT": 0.75}
    assert (counts.quantize, counts.dequantize, counts.casts) == (1, 2, 0)


def test_an_image_of_any_size_has_no_count() -> None:
    graph = model([node("Conv", ["x", "w"], ["y"])], ["n", 4, "height", "width"], w=ones(6, 4, 3, 3))
    assert arithmetic.summary(graph).mac_share is None
    assert arithmetic.summary(graph).compute_nodes == {"FLOAT": 1}


def test_raising_the_operator_set_keeps_names_and_raises_the_ir() -> None:
    graph = model([node("Conv", ["x", "w"], ["y"], name="a/b:c")], ["n", 4, 8, 8], w=ones(6, 4, 3, 3))
    raised = graphs.raise_opset(graph, 22)
    assert (graphs.opset(raised), raised.ir_version, raised.graph.node[0].name) == (22, 10, "a/b:c")
    assert graphs.raise_opset(raised, 19) is raised


def test_an_operator_that_cannot_be_raised_is_a_build_error() -> None:
    graph = model([node("NotAnOperator", ["x"], ["y"])], ["n", 1])
    with pytest.raises(BuildError, match=r"operator set 22: .*NotAnOperator"):
        graphs.raise_opset(graph, 22)
