"""What TensorRT for RTX does not build in BF16 stays in FP32; and that it still does not."""

from collections.abc import Callable

import numpy as np
import pytest
from networks import Array, small_cnn
from onnx import ModelProto, TensorProto, helper

from pipeline import graphs, precisions
from pipeline.errors import BuildError
from pipeline.graphs import cast
from pipeline.precisions import bf16

WEIGHTS: dict[str, dict[str, Array]] = {
    "ConvTranspose": {"w": np.ones((2, 3, 2, 2), np.float32)},
    "Einsum": {"w": np.ones((6, 2), np.float32)},
    "GRU": {"w": np.ones((1, 9, 6), np.float32), "r": np.ones((1, 9, 3), np.float32)},
}
ATTRIBUTES: dict[str, dict[str, object]] = {
    "Einsum": {"equation": "bchw,wo->bcho"},
    "GRU": {"hidden_size": 3},
    "LpPool": {"kernel_shape": [2, 2]},
}


def with_operator(operator: str) -> ModelProto:
    """Return a graph with the operator between two others."""
    constants = WEIGHTS.get(operator, {})
    nodes = [
        helper.make_node("Relu", ["image"], ["a"], name="before"),
        helper.make_node(operator, ["a", *constants], ["b"], name="middle", **ATTRIBUTES.get(operator, {})),
        helper.make_node("Neg", ["b"], ["result"], name="after"),
    ]
    return small_cnn(nodes, (4, 6) if operator == "GRU" else (2, 6, 6), constants)


@pytest.mark.parametrize("operator", sorted(bf16.FP32_OPERATORS))
def test_operator(operator: str, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    model = graphs.raise_opset(with_operator(operator), bf16.OPSET)
    typed = precisions.get("bf16").apply(model)
    types = graphs.element_types(typed)
    kinds = {node.name: types[node.input[0]] for node in typed.graph.node}
    assert kinds | {"before": TensorProto.BFLOAT16, "middle": TensorProto.FLOAT, "after": TensorProto.BFLOAT16} == kinds
    assert len(build_rtx(typed, "bf16")) > 0
    if operator != "Einsum":  # which `narrow` itself leaves in FP32
        with pytest.raises(BuildError):  # where it builds, TensorRT has learnt it: take it off the list
            build_rtx(cast.narrow(model, TensorProto.BFLOAT16), "bf16")
