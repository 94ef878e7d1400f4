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


def test_the_products_of_a_recurrent_operator_are_those_of_every_step() -> None:
    lstm = node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3, direction="bidirectional")
    graph = model([lstm], [7, "batch", 4], w=ones(2, 12, 4), r=ones(2, 12, 3))
    shapes = arithmetic.shapes(graph) | {"x": (7, 1, 4)}
    assert arithmetic.multiply_accumulates(arithmetic.typed_products(graph), shapes) == {"FLOAT": 7 * 2 * 12 * (4 + 3)}


def test_an_einsum_multiplies_once_for_each_combination_of_its_indices() -> None:
    graph = model([node("Einsum", ["x", "w"], ["y"], equation="bij, jk -> bik")], ["n", 4, 5], w=ones(5, 3))
    assert arithmetic.multiply_accumulates(arithmetic.typed_products(graph), arithmetic.shapes(graph)) == {
        "FLOAT": 4 * 5 * 3
    }
    alone = model([node("Einsum", ["x"], ["y"], equation="bij->bj")], ["n", 4, 5])
    assert arithmetic.summary(alone).mac_share == {}
    any_rank = model([node("Einsum", ["x", "w"], ["y"], equation="...j,jk->...k")], ["n", 4, 5], w=ones(5, 3))
    assert arithmetic.summary(any_rank).mac_share is None


def test_integers_are_no_products_of_a_precision() -> None:
    graph = model([node("Cast", ["x"], ["i"], to=TensorProto.INT32), node("MatMul", ["i", "i"], ["y"])], [4, 4])
    graph.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    assert list(arithmetic.typed_products(graph)) == []


def test_every_node_gets_a_name_of_its_own() -> None:
    nodes = [node("Relu", [a], [b], name=name) for a, b, name in (("x", "a", ""), ("a", "b", "n"), ("b", "c", "n"))]
    nodes.append(node("Relu", ["c"], ["y"], name="Relu_0"))
    names = [one.name for one in graphs.with_names(model(nodes, ["n", 4])).graph.node]
    assert names == ["Relu_0_", "n_1", "n_2", "Relu_0"]


def test_raising_the_operator_set_keeps_names_and_raises_the_ir() -> None:
    graph = model([node("Conv", ["x", "w"], ["y"], name="a/b:c")], ["n", 4, 8, 8], w=ones(6, 4, 3, 3))
    raised = graphs.raise_opset(graph, 22)
    assert (graphs.opset(raised), raised.ir_version, raised.graph.node[0].name) == (22, 10, "a/b:c")
    assert graphs.raise_opset(raised, 19) is raised


def test_an_operator_that_cannot_be_raised_is_a_build_error() -> None:
    graph = model([node("NotAnOperator", ["x"], ["y"])], ["n", 1])
    with pytest.raises(BuildError, match=r"operator set 22: .*NotAnOperator"):
        graphs.raise_opset(graph, 22)
