"""BF16: weights and arithmetic with FP32's range and 8 significant bits; inputs and outputs keep their types."""

from collections.abc import Collection

from onnx import ModelProto, TensorProto

from pipeline import graphs
from pipeline.graphs import cast
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance

OPSET = 22  # the first in which Conv and the pooling operators take BF16

FP32_OPERATORS = frozenset(
    {"ConvTranspose", "Einsum", "GRU", "HardSwish", "LpNormalization", "LpPool", "Mish"}
    | {"RandomNormalLike", "RandomUniformLike"}
)
"""What stays in FP32: TensorRT for RTX (1.7.1) builds none of these in BF16, and ONNX's Einsum takes no BF16."""


def rewrite(model: ModelProto, keep_fp32: Collection[str]) -> ModelProto:
    """Return the graph with BF16 constants and arithmetic, but for the nodes named in `keep_fp32`.

    Raises:
        BuildError: ONNX cannot raise the graph to the operator set that BF16 needs.
    """
    return cast.narrow(graphs.raise_opset(model, OPSET), TensorProto.BFLOAT16, keep_fp32, FP32_OPERATORS)


# A number is off by at most 2^-9 of itself; measured at most 2e-2 in this project's probabilities.
PRECISION = Precision(
    name="bf16",
    tolerance=Tolerance(rtol=5e-2, atol=4e-2),
    compute_type="BFLOAT16",
    rewrite=rewrite,
    emulate=cast.emulate,
    cpu_computes=False,
    fp32_operators=FP32_OPERATORS,
)
