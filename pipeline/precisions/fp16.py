"""FP16: weights and arithmetic in half precision, with Casts at the borders; inputs and outputs keep their types."""

from collections.abc import Collection

from onnx import ModelProto, TensorProto

from pipeline.graphs import cast
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance


def rewrite(model: ModelProto, keep_fp32: Collection[str]) -> ModelProto:
    """Return the graph with FP16 constants and arithmetic, but for the nodes named in `keep_fp32`."""
    return cast.narrow(model, TensorProto.FLOAT16, keep_fp32)


# A number is off by at most 2^-12 of itself; measured at most 2e-3 in this project's probabilities.
PRECISION = Precision(
    name="fp16",
    tolerance=Tolerance(rtol=1e-2, atol=5e-3),
    compute_type="FLOAT16",
    rewrite=rewrite,
    emulate=cast.emulate,
    cpu_computes=False,
)
