"""TF32's emulation, and how a rewrite that does not do what it should is caught (what all keep to: precisions/)."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline import graphs, precisions
from pipeline.backends import LoadOptions, onnxruntime
from pipeline.errors import BuildError, ConfigError


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


def test_a_graph_without_arithmetic_is_a_build_error() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(BuildError, match="none at all"):
        precisions.get("fp16").apply(model)


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
