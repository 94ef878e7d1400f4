"""Every precision on small networks of other kinds than a convolutional classifier; a new one of either enrols."""

from collections.abc import Callable
from functools import cache

import keras_networks
import numpy as np
import onnx
import pytest
from onnx import ModelProto
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

from pipeline import graphs, precisions
from pipeline.data import Split
from pipeline.errors import BuildError
from pipeline.graphs import arithmetic
from pipeline.quantization import calibration, divergence

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

NOTHING_TO_QUANTISE = {"elementwise", "lstm"}
ERROR = {"fp32": 0, "tf32": 1e-6, "fp16": 1e-5, "bf16": 1e-3, "int8": 0.02, "fp8": 0.05}
"""Bounds of the relative error; measured a third of them or less."""

exported = cache(keras_networks.exported)


def run(model: ModelProto, feed: keras_networks.Feed) -> list[np.ndarray]:
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, feed)


@pytest.mark.parametrize("network", keras_networks.NETWORKS)
@pytest.mark.parametrize("name", precisions.NAMES)
def test_precision(name: str, network: str, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    (model, feed), precision = exported(network), precisions.get(name)
    ranges = calibration.ranges(calibration.observe(model, Split(feed)), "minmax") if precision.calibrations else {}
    if network in NOTHING_TO_QUANTISE and precision.calibrations:
        with pytest.raises(BuildError, match="nothing in the graph can be quantised") as caught:
            precision.apply(model, amax=ranges)
        assert ("unroll=True" in caught.value.hint) == (network == "lstm")
        return
    typed = precision.apply(model, amax=ranges)
    runnable = precision.emulate(typed) if precision.emulate else typed
    onnx.checker.check_model(runnable, full_check=True)
    assert len(build_rtx(typed, name)) > 0
    errors = [
        calibration.relative_error({"y": before}, {"y": after})
        for before, after in zip(run(model, feed), run(runnable, feed), strict=True)
    ]
    print(f"{name} of {network}: relative errors {errors}")
    assert max(errors) <= ERROR[name]


@pytest.mark.parametrize("network", keras_networks.NETWORKS)
def test_every_product_is_in_the_precision_or_named_as_left(network: str) -> None:
    model, feed = exported(network)
    ranges = calibration.ranges(calibration.observe(model, Split(feed)), "minmax")
    for name in ("fp16", "bf16", "int8", "fp8"):
        precision = precisions.get(name)
        if network in NOTHING_TO_QUANTISE and precision.calibrations:
            continue
        typed = precision.apply(model, amax=ranges)
        kinds = arithmetic.summary(typed).compute_nodes
        assert kinds.get("FLOAT", 0) == sum(precision.left(typed).values())
        assert precision.left(typed) == precision.left(model)
        assert set(kinds) <= {"FLOAT", precision.compute_type}


def test_what_is_left() -> None:
    left = {
        (network, name): precisions.get(name).left(exported(network).graph)
        for network, name in (("masked_lstm", "int8"), ("bidirectional", "int8"), ("unet", "bf16"), ("gru", "fp16"))
    }
    assert left == {
        ("masked_lstm", "int8"): {"MatMul inside a Loop": 2},
        ("bidirectional", "int8"): {"LSTM": 1},
        ("unet", "bf16"): {"ConvTranspose": 1},
        ("gru", "fp16"): {},
    }


@pytest.mark.parametrize("network", ["masked_lstm", "two_inputs_two_outputs", "embedding"])
def test_tensors_are_compared_around_control_flow_and_with_several_inputs(network: str) -> None:
    model, feed = exported(network)
    precision = precisions.get("fp16")
    typed = precision.apply(model)
    assert precision.emulate
    found = divergence.measure(model, precision.emulate(typed), Split(feed))
    assert {name for node in model.graph.node if node.op_type == "MatMul" for name in node.output} <= set(found)
    assert max(one.record(name, "").relative_error or 0 for name, one in found.items()) < 0.01
    assert {spec.name for spec in graphs.outputs(model)} <= set(found)
