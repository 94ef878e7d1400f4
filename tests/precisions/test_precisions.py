"""TF32's emulation, and how a rewrite that does not do what it should is caught (what all keep to: precisions/)."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from pipeline import graphs, precisions
from pipeline.backends import LoadOptions, onnxruntime
from pipeline.errors import BuildError, ConfigError
from pipeline.graphs import arithmetic


@pytest.fixture(scope="session")
def exported(main_job: Path) -> onnx.ModelProto:
    """The article's CNN as the export stage published it. Read only."""
    return graphs.load(main_job / "artifacts/export/model.onnx")


def scores(model: onnx.ModelProto, images: np.ndarray, folder: Path) -> np.ndarray:
    """Run a graph in ONNX Runtime as the validate stage does."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    with onnxruntime.load(path, LoadOptions("cpu", exact=True)) as session:
        return session.run({"image": images})["probabilities"]


def test_tf32_is_a_matter_of_the_builders_flag_alone(exported: onnx.ModelProto) -> None:
    fp32, tf32 = precisions.get("fp32"), precisions.get("tf32")
    assert fp32.apply(exported) == tf32.apply(exported) == exported
    assert (fp32.allow_tf32, tf32.allow_tf32) == (False, True)


def test_tf32_emulation_rounds_operands_to_eleven_significant_bits(tmp_path: Path) -> None:
    left = np.array([[1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-12, 3.1415927, -2.7182817, 1e-30]], np.float32)
    value = helper.make_tensor_value_info
    count = left.shape[1]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "identity"], ["probabilities"])],
        "product",
        [value("image", TensorProto.FLOAT, [None, count])],
        [value("probabilities", TensorProto.FLOAT, [None, count])],
        [numpy_helper.from_array(np.eye(count, dtype=np.float32), "identity")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    emulate = precisions.get("tf32").emulate
    assert emulate is not None
    found = scores(emulate(model), left, tmp_path)[0]
    mantissa, exponent = np.frexp(left[0].astype(np.float64))
    expected = np.ldexp(np.rint(mantissa * 2**11) / 2**11, exponent)  # round to nearest, ties to even
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_a_graph_without_the_precision_is_a_build_error(exported: onnx.ModelProto) -> None:
    pretender = precisions.Precision("fp16", precisions.Tolerance(0, 0), "FLOAT16", rewrite=lambda model, *_: model)
    with pytest.raises(BuildError, match=r"should compute in FLOAT16; the graph has \{'FLOAT': 2\}"):
        pretender.apply(exported)


def small(nodes: list[onnx.NodeProto], kind: int = TensorProto.FLOAT, **constants: np.ndarray) -> onnx.ModelProto:
    """Return a graph from `x` to `y`, both [2, 2] and of one type."""
    value = helper.make_tensor_value_info
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "small", [value("x", kind, [2, 2])], [value("y", kind, [2, 2])], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_a_graph_without_products_has_types_but_nothing_to_quantise() -> None:
    relu = small([helper.make_node("Relu", ["x"], ["y"])])
    for name, kind in (("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)):
        typed = precisions.get(name).apply(relu)
        (node,) = (node for node in typed.graph.node if node.op_type == "Relu")
        assert graphs.element_types(typed)[node.input[0]] == kind
        assert precisions.get(name).mean_bits(arithmetic.summary(typed)) == 16
    for name in ("int8", "fp8"):
        with pytest.raises(BuildError, match="nothing in the graph can be quantised: it consists of 1 Relu") as caught:
            precisions.get(name).apply(relu)
        assert "Choose fp16 or bf16" in caught.value.hint


def test_a_graph_that_16_bits_do_not_change_is_a_build_error() -> None:
    moved = small([helper.make_node("Relu", ["x"], ["y"])], TensorProto.INT32)
    with pytest.raises(BuildError, match="nothing in the graph computes in FLOAT16; it consists of 1 Relu"):
        precisions.get("fp16").apply(moved)


def test_a_model_of_16_bits_is_refused_and_told_what_to_give() -> None:
    product = small([helper.make_node("MatMul", ["x", "w"], ["y"])], TensorProto.FLOAT16, w=np.ones((2, 2), np.float16))
    for name in precisions.NAMES:
        with pytest.raises(BuildError, match=f"precision {name}: the graph already contains FLOAT16") as caught:
            precisions.get(name).apply(product, amax={"x": 1.0})
        assert "export it again in FP32" in caught.value.hint


def test_inputs_outputs_and_stored_weights_may_be_of_16_bits() -> None:
    model = small(
        [
            helper.make_node("Cast", ["x"], ["a"], name="in", to=TensorProto.FLOAT),
            helper.make_node("Cast", ["stored"], ["w"], name="weight", to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["a", "w"], ["b"], name="product"),
            helper.make_node("Cast", ["b"], ["y"], name="out", to=TensorProto.FLOAT16),
        ],
        TensorProto.FLOAT16,
        stored=np.array([[1, 2], [3, 4]], np.float16),
    )
    feed = {"x": np.array([[1, 0], [0, 1]], np.float16)}
    for name in precisions.NAMES:
        precision = precisions.get(name)
        typed = precision.apply(model, amax={"a": 1.0, "w": 4.0})
        runnable = precision.emulate(typed) if precision.emulate else typed
        graphs.check(runnable, name)
        session = InferenceSession(runnable.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, feed)[0], [[1, 2], [3, 4]], rtol=0.1)


def test_weights_that_are_listed_among_the_inputs_are_weights() -> None:
    model = small([helper.make_node("MatMul", ["x", "w"], ["y"], name="n")], w=np.ones((2, 2), np.float32))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2]))
    model.ir_version = 3
    typed = precisions.get("int8").apply(model, amax={"x": 1.0})
    assert [value.name for value in typed.graph.input] == ["x"]
    assert [value.name for value in model.graph.input] == ["x", "w"]


def test_a_rewrite_that_breaks_the_graph_is_a_build_error_with_the_checkers_words(exported: onnx.ModelProto) -> None:
    def breaking(model: onnx.ModelProto, *_: object) -> onnx.ModelProto:
        model.graph.node[3].input[0] = "nowhere"
        return model

    with pytest.raises(BuildError, match="nowhere"):
        precisions.Precision("fp32", precisions.Tolerance(0, 0), "FLOAT", rewrite=breaking).apply(exported)


def test_an_unknown_precision_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown precision 'fp12'") as caught:
        precisions.get("fp12")
    assert "fp16" in caught.value.hint
