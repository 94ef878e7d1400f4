"""Scales and shifts after a convolution are in its weights, and nowhere where that would change the results."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline import graphs
from pipeline.graphs import fold

NODE = helper.make_node
CHANNELS = 4
RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model(nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("y",), **constants: np.ndarray) -> onnx.ModelProto:
    """Return a checked graph of `x` [batch, 3, 6, 4], whose width at the end is that of its channels."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True)
    graphs.check(made, "small")
    return made


def run(made: onnx.ModelProto) -> list[np.ndarray]:
    feed = {"x": np.random.default_rng(1).standard_normal((2, 3, 6, 4)).astype(np.float32)}
    return ort.InferenceSession(made.SerializeToString()).run(None, feed)


def folded(made: onnx.ModelProto) -> list[str]:
    """Return the operators left by `fold`, which has kept the results and the convolution's name."""
    expected = run(made)
    fold.fold(made)
    graphs.check(made, "folded")
    for found, wanted in zip(run(made), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert made.graph.node[0].name == "convolution"
    return [node.op_type for node in made.graph.node]


CONV = NODE("Conv", ["x", "w"], ["c"], name="convolution", kernel_shape=[1, 1])
BIASED = NODE("Conv", ["x", "w", "b"], ["c"], name="convolution", kernel_shape=[1, 1])
TRANSPOSED = NODE("ConvTranspose", ["x", "w"], ["c"], name="convolution", kernel_shape=[1, 1])
SCALE, SHIFT = NODE("Mul", ["c", "s"], ["m"]), NODE("Add", ["t", "m"], ["y"])


@pytest.mark.parametrize(
    ("convolution", "constants"),
    [
        (CONV, {"w": drawn(CHANNELS, 3, 1, 1)}),
        (BIASED, {"w": drawn(CHANNELS, 3, 1, 1), "b": drawn(CHANNELS)}),
        (TRANSPOSED, {"w": drawn(3, CHANNELS, 1, 1)}),
    ],
)
def test_a_scale_and_a_shift_per_channel_are_folded(
    convolution: onnx.NodeProto, constants: dict[str, np.ndarray]
) -> None:
    made = model([convolution, SCALE, SHIFT], s=drawn(CHANNELS, 1, 1), t=drawn(1, CHANNELS, 1, 1), **constants)
    assert folded(made) == [convolution.op_type]


def test_a_constant_along_the_width_is_left() -> None:
    made = model([CONV, SCALE, SHIFT], w=drawn(CHANNELS, 3, 1, 1), s=drawn(4), t=drawn(1, 1, 1, 4))
    assert folded(made) == ["Conv", "Mul", "Add"]


def test_weights_that_another_reads_are_left() -> None:
    other = NODE("Conv", ["x", "w"], ["y"], name="other", kernel_shape=[1, 1])
    made = model([CONV, SCALE, other], ("m", "y"), w=drawn(CHANNELS, 3, 1, 1), s=drawn(CHANNELS, 1, 1))
    assert folded(made) == ["Conv", "Mul", "Conv"]


@pytest.mark.parametrize("outputs", [("m", "c"), ("m", "r")])
def test_a_result_that_another_reads_is_left(outputs: tuple[str, str]) -> None:
    made = model(
        [CONV, SCALE, NODE("Relu", ["c"], ["r"])], outputs, w=drawn(CHANNELS, 3, 1, 1), s=drawn(CHANNELS, 1, 1)
    )
    assert folded(made) == ["Conv", "Mul", "Relu"]


def test_grouped_transposed_convolutions_are_left() -> None:
    grouped = NODE("ConvTranspose", ["x", "w"], ["c"], name="convolution", kernel_shape=[1, 1], group=3)
    made = model([grouped, SCALE, SHIFT], w=drawn(3, 1, 1, 1), s=drawn(3, 1, 1), t=drawn(3, 1, 1))
    assert folded(made) == ["ConvTranspose", "Mul", "Add"]
