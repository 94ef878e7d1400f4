"""Every rewrite on graphs with Loop, Scan and If, written by hand so that each trap is there."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, parser
from onnxruntime import InferenceSession

from pipeline import graphs, precisions
from pipeline.graphs import arithmetic, control_flow, quantize

LOOP = """<ir_version: 8, opset_import: ["" : 18]>
looped (float[batch, 4] x) => (float[batch, 4] y, float[three, batch, 4] steps)
<int64 rounds = {3}, bool go = {1}, float[4, 4] w = {
    1, 0.5, 0, 0,  0, 1, 0.5, 0,  0, 0, 1, 0.5,  0.5, 0, 0, 1}, float[4] inside_only = {1, 2, 3, 4}>
{
    a = MatMul (x, w)
    state, steps = Loop (rounds, go, a) <body = body (int64 i, bool before, float[batch, 4] carried)
        => (bool after, float[batch, 4] next, float[batch, 4] step)
        <float half = {0.5}>
        {
            after = Identity (before)
            product = MatMul (carried, w)
            moved = Add (product, inside_only)
            seen = Add (moved, a)
            next = Mul (seen, half)
            step = Neg (next)
        }>
    y = Tanh (state)
}"""

SCAN = """<ir_version: 8, opset_import: ["" : 18]>
scanned (float[5, 4] x) => (float[4] total, float[5, 4] steps)
<float[4] zero = {0, 0, 0, 0}, float[4] scale = {1, 2, 3, 4}>
{
    a = Mul (x, scale)
    total, steps = Scan (zero, a) <num_scan_inputs = 1, body = body (float[4] sum, float[4] row)
        => (float[4] next, float[4] step)
        {
            next = Add (sum, row)
            step = Mul (next, scale)
        }>
}"""

IF = """<ir_version: 8, opset_import: ["" : 18]>
chosen (float[batch, 4] x) => (float[batch, 4] y)
<float limit = {0}, float[4, 4] w = {1, 2, 3, 4,  2, 1, 0, 1,  1, 1, 1, 1,  0, 0, 1, 0}>
{
    a = MatMul (x, w)
    sum = ReduceSum <keepdims = 0> (a)
    positive = Greater (sum, limit)
    b = If (positive) <then_branch = then () => (float[batch, 4] r) { r = MatMul (a, w) },
                       else_branch = otherwise () => (float[batch, 4] r) { r = Neg (a) }>
    y = Relu (b)
}"""

GRAPHS = {"Loop": LOOP, "Scan": SCAN, "If": IF}


def named(text: str) -> ModelProto:
    """Parse a graph, and name its nodes as exporters do."""
    model = parser.parse_model(text)
    for i, (node, _) in enumerate(control_flow.walk(model.graph)):
        node.name = f"{node.op_type}_{i}"
    return model


def run(model: ModelProto) -> list[np.ndarray]:
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = [size if isinstance(size, int) else 2 for size in session.get_inputs()[0].shape]
    return session.run(None, {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)})


def kept_of(model: ModelProto, operator: str) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == operator]


@pytest.mark.parametrize("operator", GRAPHS)
@pytest.mark.parametrize("name", precisions.NAMES)
def test_bodies_are_rewritten_or_left(name: str, operator: str, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    model, precision = named(GRAPHS[operator]), precisions.get(name)
    ranges = dict.fromkeys(quantize.activations(model), 4.0)
    if precision.calibrations and not ranges:
        pytest.skip("nothing to quantise")
    typed = precision.apply(model, amax=ranges)
    runnable = precision.emulate(typed) if precision.emulate else typed
    graphs.check(runnable, name)
    for reference, found in zip(run(model), run(runnable), strict=True):
        np.testing.assert_allclose(found, reference, rtol=0.1, atol=0.1)
    assert len(build_rtx(typed, name)) > 0
    inside = {product.kind for product in arithmetic.typed_products(typed) if product.inside}
    assert inside <= {"FLOAT" if precision.calibrations else precision.compute_type}
    assert precision.left(typed) == ({f"MatMul inside a {operator}": 1} if inside and precision.calibrations else {})


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("operator", GRAPHS)
def test_a_kept_loop_keeps_its_body(name: str, operator: str, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    model, precision = named(GRAPHS[operator]), precisions.get(name)
    typed = precision.apply(model, keep_fp32=kept_of(model, operator))
    (flow,) = (node for node in graphs.inferred(typed).graph.node if node.op_type == operator)
    for body in control_flow.bodies(flow):
        types = control_flow.element_types(body)
        assert {types[tensor] for tensor in control_flow.own_tensors(body)} <= {
            TensorProto.FLOAT,
            TensorProto.INT64,
            TensorProto.BOOL,
        }
    assert graphs.narrowed_by(typed) == [precision.compute_type]
    assert len(build_rtx(typed, name)) > 0


def test_a_tensor_from_around_is_cast_before_the_loop_and_not_in_every_round() -> None:
    typed = precisions.get("fp16").apply(named(LOOP))
    (flow,) = (node for node in typed.graph.node if node.op_type == "Loop")
    (body,) = control_flow.bodies(flow)
    casts = [node for node in body.node if node.op_type == "Cast"]
    assert [node.input[0] for node in casts] == ["carried", "next/float16", "step/float16"]
    assert {tensor.name for tensor in typed.graph.initializer} >= {"w/float16", "inside_only/float16"}


def test_constants_that_only_a_body_reads_are_kept_by_int8() -> None:
    typed = precisions.get("int8").apply(named(LOOP), amax={"x": 4.0})
    names = {tensor.name for tensor in typed.graph.initializer}
    assert names >= {"inside_only", "w", "w/axis1/quantised"}


def test_a_state_is_carried_in_fp32() -> None:
    """Adding 1 to 4096 in FP16 gives 4096: a sum over many rounds would stand still."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    counted (float[1] x) => (float[1] y) <int64 rounds = {3}, bool go = {1}, float[1] one = {1}>
    {
        y = Loop (rounds, go, x) <body = body (int64 i, bool before, float[1] carried) => (bool after, float[1] next)
            { after = Identity (before)
              scaled = Mul (one, one)
              next = Add (carried, scaled) }>
    }"""
    model = named(text)
    typed = precisions.get("fp16").apply(model)
    runnable = onnx.ModelProto()
    runnable.CopyFrom(precisions.get("fp16").emulate(typed))  # type: ignore[misc]
    session = InferenceSession(runnable.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.float32([0.25])})
    assert found == pytest.approx(3.25)


def test_products_in_a_body_are_counted_but_not_how_often_they_run() -> None:
    model = named(LOOP)
    counted = arithmetic.summary(model)
    assert (counted.compute_nodes, counted.mac_share) == ({"FLOAT": 2}, None)
    assert counted.nodes == 9
    assert [product.inside for product in arithmetic.typed_products(model)] == ["", "Loop"]
