"""Each form of a product, quantised and in 16 bits: right in ONNX Runtime, and built by TensorRT for RTX."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from pipeline import graphs, precisions
from pipeline.data import Split
from pipeline.graphs import arithmetic, quantize
from pipeline.precisions import Precision
from pipeline.quantization import calibration

node = helper.make_node
RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def product(
    nodes: list[NodeProto], shape: tuple[int, ...], outputs: tuple[str, ...] = ("y",), **constants: np.ndarray
) -> ModelProto:
    """Return a graph from `x`, FLOAT of [batch, *shape]."""
    for i, one in enumerate(nodes):
        one.name = f"{one.op_type}_{i}"
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, constants[name].shape if name in constants else None)
            for name in outputs
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def constant(name: str, array: np.ndarray) -> NodeProto:
    return node("Constant", [], [name], value=numpy_helper.from_array(array))


FORMS: dict[str, tuple[ModelProto, list[int]]] = {
    "two activations": (
        product([node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])], (4, 6)),
        [],
    ),
    "a square": (product([node("MatMul", ["x", "x"], ["y"])], (4, 4)), []),
    "constant on the left": (product([node("MatMul", ["w", "x"], ["y"])], (4, 6), w=weight(5, 4)), []),
    "batched weights": (product([node("MatMul", ["x", "w"], ["y"])], (3, 4, 6), w=weight(3, 6, 5)), []),
    "a vector of weights": (product([node("MatMul", ["x", "w"], ["y"])], (4, 6), w=weight(6)), []),
    "Gemm": (product([node("Gemm", ["x", "w", "b"], ["y"])], (6,), w=weight(6, 5), b=weight(5)), [5]),
    "Gemm transB": (product([node("Gemm", ["x", "w"], ["y"], transB=1)], (6,), w=weight(5, 6)), [5]),
    "Gemm transA": (product([node("Gemm", ["w", "x"], ["y"], transA=1, transB=1)], (6,), w=weight(6, 5)), []),
    "a depthwise convolution": (
        product([node("Conv", ["x", "w", "b"], ["y"], group=4)], (4, 6, 6), w=weight(4, 1, 3, 3), b=weight(4)),
        [4],
    ),
    "a grouped convolution": (
        product([node("Conv", ["x", "w"], ["y"], group=2)], (4, 6, 6), w=weight(6, 2, 3, 3)),
        [6],
    ),
    "a convolution in three dimensions": (
        product([node("Conv", ["x", "w"], ["y"])], (2, 5, 5, 5), w=weight(3, 2, 3, 3, 3)),
        [3],
    ),
    "ConvTranspose": (
        product(
            [node("ConvTranspose", ["x", "w"], ["a"], strides=[2, 2]), node("Relu", ["a"], ["y"])],
            (4, 6, 6),
            w=weight(4, 3, 2, 2),
        ),
        [3],
    ),
    "a grouped ConvTranspose": (
        product(
            [node("ConvTranspose", ["x", "w"], ["a"], group=2), node("Relu", ["a"], ["y"])],
            (4, 6, 6),
            w=weight(4, 3, 3, 3),
        ),
        [],
    ),
    "weights shared by two nodes": (
        product([node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["y"])], (6,), w=weight(6, 6)),
        [6],
    ),
    "weights tied both ways": (
        product([node("Gemm", ["x", "w"], ["a"]), node("Gemm", ["a", "w"], ["y"], transB=1)], (6,), w=weight(6, 5)),
        [5, 6],
    ),
    "weights that are an output": (
        product([node("MatMul", ["x", "w"], ["y"])], (6,), ("y", "w"), w=weight(6, 5)),
        [5],
    ),
    "weights from a Constant node": (
        product([constant("w", weight(6, 5)), node("MatMul", ["x", "w"], ["y"])], (6,)),
        [5],
    ),
}
"""By name: the graph, and the sizes of its scales per channel."""


def applied(precision: Precision, model: ModelProto, feed: dict[str, np.ndarray]) -> ModelProto:
    return precision.apply(model, amax=calibration.ranges(calibration.observe(model, Split(feed)), "minmax"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in precisions.NAMES if precisions.get(name).rewrite])
def test_form(name: str, form: str, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    (model, channels), precision = FORMS[form], precisions.get(name)
    shape = [size or 5 for size in graphs.inputs(model)[0].shape]
    feed = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    typed = applied(precision, model, feed)
    runnable = precision.emulate(typed) if precision.emulate else typed
    graphs.check(runnable, name)
    results = [InferenceSession(one.SerializeToString()).run(None, feed) for one in (model, runnable)]
    for reference, found in zip(*results, strict=True):
        assert calibration.relative_error({"y": reference}, {"y": found}) < 0.01
    assert not precision.left(typed) or form.endswith("ConvTranspose")
    if precision.calibrations:
        scales = [
            tensor.dims[0] for tensor in typed.graph.initializer if tensor.name.endswith("/scale") and tensor.dims
        ]
        assert sorted(scales) == channels
    assert len(build_rtx(typed, name)) > 0


@pytest.mark.parametrize("name", ["int8", "fp8", "bf16"])
def test_an_einsum_stays_in_fp32_and_is_counted(name: str, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    model = product(
        [node("MatMul", ["x", "w"], ["a"]), node("Einsum", ["a", "v"], ["y"], equation="bij,jk->bik")],
        (4, 6),
        w=weight(6, 5),
        v=weight(5, 2),
    )
    feed, precision = {"x": weight(3, 4, 6)}, precisions.get(name)
    typed = applied(precision, model, feed)
    assert precision.left(typed) == {"Einsum": 1}
    assert arithmetic.summary(typed).mac_share == pytest.approx({precision.compute_type: 30 / 40, "FLOAT": 10 / 40})
    assert len(build_rtx(typed, name)) > 0


def test_integers_are_looked_up_and_multiplied_as_they_are() -> None:
    """Token ids, their table and an integer product are left alone; what follows is quantised."""
    graph = helper.make_graph(
        [
            node("MatMulInteger", ["small", "shift"], ["moved"], name="integers"),
            node("Gather", ["table", "ids"], ["rows"], name="gather"),
            node("MatMul", ["rows", "w"], ["y"], name="product"),
        ],
        "integers",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 5]),
            helper.make_tensor_value_info("small", TensorProto.INT8, [2, 2]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 3]),
            helper.make_tensor_value_info("moved", TensorProto.INT32, [2, 2]),
        ],
        [
            numpy_helper.from_array(weight(50, 4), "table"),
            numpy_helper.from_array(weight(4, 3), "w"),
            numpy_helper.from_array(np.ones((2, 2), np.int8), "shift"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    typed = precisions.get("int8").apply(model, amax={"rows": 3.0})
    assert quantize.activations(model) == ("rows",)
    nodes = {one.name: one for one in typed.graph.node}
    assert nodes["gather"].input[:] == ["table", "ids"]
    assert nodes["integers"].input[:] == ["small", "shift"]
    assert arithmetic.summary(typed).compute_nodes == {"INT8": 1}
