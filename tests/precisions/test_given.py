"""A graph that comes quantised is taken as it is: proven to compute in 8 bits, and never quantised again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Article, small_cnn
from onnx import ModelProto, helper

from pipeline import graphs, precisions
from pipeline.errors import BuildError
from pipeline.exporters import Exportable, onnx_file
from pipeline.tensors import Signature

node = helper.make_node


def quantised(article: Article, name: str = "int8") -> ModelProto:
    return precisions.get(name).configured("fp16", "all").apply(article.model, amax=article.ranges)


@pytest.mark.parametrize("name", ["int8", "fp8"])
def test_it_is_taken_as_it_is(name: str, article: Article, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    model = quantised(article, name)
    precision = precisions.given(model)
    assert precision is not None
    assert (precision.name, precision.compute_type) == ("given", precisions.get(name).compute_type)
    typed = precision.apply(model)
    assert typed.SerializeToString() == model.SerializeToString()
    assert build_rtx(typed, name)


def test_what_is_in_fp32_or_16_bits_is_not_quantised(article: Article) -> None:
    assert precisions.given(article.model) is None
    assert precisions.given(precisions.get("fp16").apply(article.model)) is None


def test_a_graph_that_quantises_and_computes_nothing_on_it_is_refused() -> None:
    constants = {
        "w": np.ones((4, 4, 1, 1), np.float32),
        "scale": np.float32(0.1).reshape(()),
        "zero": np.int8(0).reshape(()),
    }
    model = small_cnn(
        [
            node("Conv", ["image", "w"], ["c"], name="conv"),
            node("QuantizeLinear", ["c", "scale", "zero"], ["q"], name="q"),
            node("DequantizeLinear", ["q", "scale", "zero"], ["result"], name="d"),
        ],
        (4, 4, 4),
        constants,
    )
    precision = precisions.given(model)
    assert precision is not None
    with pytest.raises(BuildError, match=r"no product of it computes between quantised operands: \{'FLOAT': 1\}"):
        precision.apply(model)


def test_weights_that_are_quantised_in_the_graph_are_not_folded_back(article: Article, tmp_path: Path) -> None:
    """As Model Optimizer leaves them: FP32, and then Q/DQ."""
    typed = precisions.get("int8").configured("fp32", "all").apply(article.model, amax=article.ranges)
    stored = next(tensor for tensor in typed.graph.initializer if tensor.data_type == 3 and len(tensor.dims) == 4)
    kernel = next(tensor for tensor in article.model.graph.initializer if tensor.dims == stored.dims)
    position, reader = next((i, one) for i, one in enumerate(typed.graph.node) if stored.name in one.input)
    typed.graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel), "kernel"))
    quantise = node("QuantizeLinear", ["kernel", *reader.input[1:]], ["again"], name="again", axis=0)
    reader.input[0] = "again"
    typed.graph.node.insert(position, quantise)
    graphs.check(typed, "the graph")
    given, written = tmp_path / "given.onnx", tmp_path / "model.onnx"
    onnx.save(typed, given)
    signature = Signature(graphs.inputs(typed), graphs.outputs(typed))
    said = onnx_file.write(Exportable("given", "onnx", given, signature, None, None), written, 18)
    assert "as it is: it is quantised already" in said
    assert [one.op_type for one in onnx.load(written).graph.node] == [one.op_type for one in typed.graph.node]
