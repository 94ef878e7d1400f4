"""Bias correction: the shift that is measured is the one there is, and taking it off makes the graph more exact."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pipeline import graphs, precisions
from pipeline.data import Split
from pipeline.graphs import biases, quantize
from pipeline.quantization import bias_correction, calibration
from pipeline.runners import inference

node = helper.make_node
FP32 = precisions.get("fp32")


def network(*, biased: bool = True) -> ModelProto:
    """Return Conv, ReLU, MatMul and Add, whose weights rounding moves in one direction: all are above a step."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        steps = random.integers(-100, 100, shape) + 0.4
        steps.reshape(shape[0], -1)[:, 0] = 127
        return (steps / 127).astype(np.float32)

    inputs = ["x", "w", "b"] if biased else ["x", "w"]
    made = helper.make_graph(
        [
            node("Conv", inputs, ["c"], name="conv"),
            node("Relu", ["c"], ["r"], name="relu"),
            node("Flatten", ["r"], ["f"], name="flatten"),
            node("MatMul", ["f", "v"], ["m"], name="dense"),
            node("Add", ["m", "d"], ["y"], name="add"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weights(16, 3, 3, 3), "w"),
            *([numpy_helper.from_array(np.ones(16, np.float32), "b")] if biased else []),
            numpy_helper.from_array(weights(32, 256).T.copy(), "v"),
            numpy_helper.from_array(np.zeros(32, np.float32), "d"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return graphs.inferred(model)


@pytest.fixture
def samples() -> Split:
    return Split({"x": np.abs(np.random.default_rng(1).normal(size=(70, 3, 6, 6))).astype(np.float32)})


def measured(
    model: ModelProto, samples: Split, leave: tuple[str, ...] = (), scales: Any = np.float16
) -> dict[str, np.ndarray]:
    ranges = calibration.ranges(calibration.observe(model, samples), "minmax")
    return bias_correction.shifts(model, quantize.INT8, ranges, leave, scales, samples)


def test_the_shift_of_each_channel_is_that_of_the_quantised_product(samples: Split) -> None:
    model = network()
    found = measured(model, samples, scales=np.float32)
    assert set(found) == {"conv", "dense"}
    ranges = calibration.ranges(calibration.observe(model, samples), "minmax")
    typed = precisions.get("int8").configured("fp32", "all").apply(model, amax=ranges)
    for one in (model, typed):
        one.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    difference = (
        inference.outputs(typed, FP32, samples, 32)["c"] - inference.outputs(model, FP32, samples, 32)["c"]
    ).mean((0, 2, 3))
    np.testing.assert_allclose(found["conv"], difference, atol=1e-5)
    assert np.abs(difference).max() > 0.02


@pytest.mark.parametrize("biased", [True, False])
def test_corrected_biases_make_the_graph_more_exact(samples: Split, biased: bool) -> None:
    model = network(biased=biased)
    precision = precisions.get("int8").configured("fp16", "all")
    ranges = calibration.ranges(calibration.observe(model, samples), "minmax")
    shifts = measured(model, samples)
    reference = inference.outputs(model, FP32, samples, 32)
    before, after = (
        calibration.relative_error(
            reference, inference.outputs(precision.apply(model, (), ranges, given), precision, samples, 32)
        )
        for given in ({}, shifts)
    )
    assert after < before / 2


def test_what_is_left_out_or_kept_keeps_its_bias(samples: Split) -> None:
    model = network()
    assert set(measured(model, samples, leave=("dense",))) == {"conv"}
    shifts = measured(model, samples)
    ranges = calibration.ranges(calibration.observe(model, samples), "minmax")
    typed = precisions.get("int8").configured("fp32", "all").apply(model, ["conv"], ranges, shifts)
    constants = {tensor.name for tensor in typed.graph.initializer}
    assert "b" in constants
    assert "conv/corrected" not in constants
    assert "dense/corrected" in constants


def test_where_biases_are() -> None:
    found = biases.biases(network())
    assert (found["conv"].node, found["conv"].operand, found["conv"].name) == ("conv", 2, "b")
    assert (found["dense"].node, found["dense"].operand, found["dense"].name) == ("add", 1, "d")
    assert biases.biases(network(biased=False))["conv"].name is None


def test_a_product_that_others_read_has_no_bias_of_its_own() -> None:
    model = network()
    model.graph.node.append(node("Neg", ["m"], ["n"], name="other"))
    model.graph.output.append(helper.make_tensor_value_info("n", TensorProto.FLOAT, None))
    assert "dense" not in biases.biases(model)
