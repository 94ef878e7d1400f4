"""What holds for any convolutional network: small random ones, drawn by hypothesis."""

from collections.abc import Callable

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import Array, run, small_cnn
from onnx import helper

from pipeline import graphs, precisions
from pipeline.errors import BuildError
from pipeline.graphs import arithmetic, quantize

REWRITING = [name for name in precisions.NAMES if precisions.get(name).rewrites]


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """One to four blocks of convolution, activation, perhaps pooling or a residual addition; then a dense layer."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    size, channels = draw(st.integers(4, 9)), draw(st.integers(1, 4))
    shape, at = (channels, size, size), "image"
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {}

    def weight(name: str, *dims: int) -> str:
        constants[name] = random.normal(size=dims).astype(np.float32)
        return name

    def add(op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    for i in range(draw(st.integers(1, 4))):
        depthwise = draw(st.booleans())
        width = channels if depthwise else draw(st.integers(1, 5))
        inputs = [at, weight(f"kernel{i}", width, 1 if depthwise else channels, 3, 3)]
        if draw(st.booleans()):
            inputs.append(weight(f"bias{i}", width))
        before, before_channels = at, channels
        at = add("Conv", *inputs, pads=[1, 1, 1, 1], group=channels if depthwise else 1)
        channels = width
        at = add(draw(st.sampled_from(["Relu", "LeakyRelu", "Sigmoid", "Tanh"])), at)
        if draw(st.booleans()) and channels == before_channels:
            at = add("Add", at, before)
        elif size >= 2 and draw(st.booleans()):
            at = add(draw(st.sampled_from(["MaxPool", "AveragePool"])), at, kernel_shape=[2, 2], strides=[2, 2])
            size //= 2
    if draw(st.booleans()):
        at, features = add("GlobalAveragePool", at), channels
    else:
        features = channels * size * size
    at = add("Flatten", at)
    dense = draw(st.sampled_from(["Gemm", "MatMul"]))
    inputs = [at, weight("matrix", features, 3), *([weight("offset", 3)] if dense == "Gemm" else [])]
    at = add(dense, *inputs)
    nodes.append(helper.make_node("Softmax", [at], ["result"], name="softmax"))
    return small_cnn(nodes, shape, constants)


def ranges(model: onnx.ModelProto) -> dict[str, float]:
    """Ranges that no calibration found: what counts here is the graph."""
    return dict.fromkeys(quantize.activations(model), 4.0)


@settings(max_examples=60, deadline=None)
@given(model=networks(), data=st.data())
def test_a_rewrite_keeps_inputs_and_outputs_whatever_stays_in_fp32(model: onnx.ModelProto, data: st.DataObject) -> None:
    products = [node.name for node in arithmetic.compute_nodes(model)]
    rest = [node.name for node in model.graph.node if node.name != products[-1]]
    keep = data.draw(st.sets(st.sampled_from(rest)))
    shape = [2, *(size or 1 for size in graphs.inputs(model)[0].shape[1:])]
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    reference = run(model, image)
    for name in REWRITING:
        precision = precisions.get(name)
        typed = precision.apply(model, keep_fp32=keep, amax=ranges(model))
        assert graphs.inputs(typed) == graphs.inputs(model)
        assert graphs.outputs(typed) == graphs.outputs(model)
        kinds = {product.node.name: product.kind for product in arithmetic.typed_products(typed)}
        assert kinds == {n: "FLOAT" if n in keep else precision.compute_type for n in products}
        result = run(typed if precision.emulate is None else precision.emulate(typed), image)
        assert result.shape == reference.shape
        assert np.isfinite(result).all()
        if name == "fp16":
            assert np.abs(result - reference).max() < 0.05


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=networks(), data=st.data())
def test_tensorrt_for_rtx_takes_whatever_stays_in_fp32(
    build_rtx: Callable[[onnx.ModelProto, str], bytes], model: onnx.ModelProto, data: st.DataObject
) -> None:
    products = [node.name for node in arithmetic.compute_nodes(model)]
    rest = [node.name for node in model.graph.node if node.name != products[-1]]
    keep = data.draw(st.sets(st.sampled_from(rest)))
    for name in REWRITING:
        assert build_rtx(precisions.get(name).apply(model, keep_fp32=keep, amax=ranges(model)), name)


@settings(max_examples=20, deadline=None)
@given(model=networks())
def test_fp32_is_the_identity_and_twice_is_refused(model: onnx.ModelProto) -> None:
    for name in precisions.NAMES:
        typed = precisions.get(name).apply(model, amax=ranges(model))
        if name not in REWRITING:
            assert typed == model
            continue
        try:
            precisions.get(name).apply(typed, amax=ranges(model))
        except BuildError as error:
            assert "already" in error.message  # noqa: PT017
        else:
            raise AssertionError(f"{name} was applied twice")
