"""Single numbers get the shape that ONNX Runtime is fast with, and nothing else changes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline import config, data, environment, graphs
from pipeline.errors import BuildError
from pipeline.graphs import simplify

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline import models
    from pipeline.exporters import tf2onnx

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

layers = keras.layers
NETWORKS = {
    "article": lambda: models.article_cnn((28, 28, 1), 10),
    "chain": lambda: [layers.Rescaling(1 / 127.5, offset=-1), layers.Flatten(), layers.Dense(10)],
    "normalised": lambda: [layers.BatchNormalization(), layers.ZeroPadding2D(1), layers.Conv2D(2, 3)],
    "late": lambda: [
        layers.Rescaling(0.5),
        layers.Conv2D(3, 3),
        layers.Conv2D(1, 3),
        layers.Rescaling(3, offset=1),
        layers.Flatten(),
    ],
    "single": lambda: [layers.Flatten(), layers.Dense(1), layers.Rescaling(3, offset=1), layers.Reshape((1, 1))],
}


def network(name: str) -> keras.Model:
    """Return one of the networks, with weights that are all different."""
    keras.utils.set_random_seed(0)
    found = NETWORKS[name]()
    if isinstance(found, list):
        found = keras.Sequential([keras.Input((28, 28, 1), dtype="uint8", name="image"), *found])
    for weight in found.weights:
        if weight.dtype == "float32":
            weight.assign(keras.random.uniform(weight.shape, 0.1, 1, seed=1))
    return found


def exported(model: keras.Model) -> onnx.ModelProto:
    return tf2onnx.convert(model, 18)


def slow_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the elementwise nodes whose result has a last dimension of 1 that a single number lacks."""
    shapes = {
        value.name: value.type.tensor_type.shape.dim
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    constants = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("Add", "Div", "Mul", "Sub")
        for name in node.input
        if name in constants and shapes[node.output[0]][-1].dim_value == 1
        if np.prod(constants[name]) == 1 and len(constants[name]) < len(shapes[node.output[0]])
    ]


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 2  # a constant that nothing reads would be told
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_models_single_numbers_are_shaped_and_its_results_are_bit_identical(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = onnx.ModelProto()
    shape = simplify._shape_single_numbers

    def keep_and_shape(graph: onnx.ModelProto) -> onnx.ModelProto:
        before.CopyFrom(graph)
        return shape(graph)

    monkeypatch.setattr(simplify, "_shape_single_numbers", keep_and_shape)
    found = exported(network(name))
    assert slow_nodes(before)
    assert slow_nodes(found) == []
    graphs.check(found, "shaped")
    assert [node.name for node in found.graph.node] == [node.name for node in before.graph.node]
    assert found.graph.output == before.graph.output
    assert graphs.element_types(found).keys() >= {name for node in before.graph.node for name in node.output}
    read = {name for node in found.graph.node for name in node.input}
    assert all(tensor.name in read for tensor in found.graph.initializer)
    images = data.load(config.Data(name="digits")).test.feed()[""][:128]
    ours, theirs = run(found, images), run(before, images)
    assert ours.std() > 0
    assert ours.tobytes() == theirs.tobytes()


NODE = helper.make_node


def graph(nodes: list[onnx.NodeProto], **constants: object) -> onnx.ModelProto:
    """Return a checked graph from `grey` [batch, 4, 4, 1] and `colour` [batch, 4, 4, 3] to `result`."""
    values = {"grey": 1, "colour": 3}
    made = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, 4, last])
            for name, last in values.items()
        ],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graphs.check(model, "small")
    return model


def shaped(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the constants after the rewrite, of which the checker approves."""
    found = simplify._shape_single_numbers(model)
    graphs.check(found, "shaped")
    return {tensor.name: tuple(tensor.dims) for tensor in found.graph.initializer}


def test_a_number_with_several_readers_is_shaped_for_those_that_need_it() -> None:
    model = graph(
        [
            NODE("Mul", ["grey", "number"], ["a"]),
            NODE("Div", ["number", "a"], ["b"]),
            NODE("Mul", ["colour", "number"], ["c"]),
            NODE("Add", ["b", "c"], ["result"]),
        ],
        number=3,
    )
    assert shaped(model) == {"number": (), "number/rank4": (1, 1, 1, 1)}
    assert [list(node.input) for node in model.graph.node] == [
        ["grey", "number/rank4"],
        ["number/rank4", "a"],
        ["colour", "number"],
        ["b", "c"],
    ]


@pytest.mark.parametrize("constant", [[[[[3]]]], np.ones((4, 1, 1)), [1, 2, 3], [[[[[[3]]]]]]])
def test_other_constants_are_left_alone(constant: object) -> None:
    shape = np.shape(constant)
    assert shaped(graph([NODE("Mul", ["grey", "number"], ["result"])], number=constant)) == {"number": shape}


def test_a_number_that_a_branch_reads_stays() -> None:
    def branch(name: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, 4, 1])
        return helper.make_graph([NODE("Mul", ["grey", "number"], [name])], name, [], [result])

    nodes = [
        NODE("Add", ["grey", "number"], ["a"]),
        NODE("ReduceMax", ["colour"], ["most"], keepdims=0),
        NODE("Cast", ["most"], ["any"], to=TensorProto.BOOL),
        NODE("If", ["any"], ["b"], then_branch=branch("yes"), else_branch=branch("no")),
        NODE("Add", ["a", "b"], ["result"]),
    ]
    assert shaped(graph(nodes, number=3)) == {"number": (), "number/rank4": (1, 1, 1, 1)}


def test_a_graph_that_is_not_right_is_an_error_with_the_words_of_who_found_it() -> None:
    shapes = {"x": [2, 3], "y": [5, 2], "z": [2, 2]}
    x, y, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "y"], ["z"])], "does not fit", [x, y], [z])
    with pytest.raises(BuildError, match="the graph cannot be simplified: InferenceError"):
        simplify.simplify(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def test_a_graph_of_2_gb_is_simplified_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one, with the limit lowered: a node that does nothing goes, and the weights are as they were."""
    weight = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    nodes = [
        helper.make_node("Identity", ["x"], ["i"], name="nothing"),
        helper.make_node("MatMul", ["i", "w"], ["y"], name="product"),
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    monkeypatch.setattr(simplify, "MOST", 1)
    found = simplify.simplify(given)
    assert [node.op_type for node in found.graph.node] == ["MatMul"]
    assert [value.name for value in found.graph.input] == ["x"]
    (kept,) = found.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(kept), weight)
