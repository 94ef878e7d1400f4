"""FP8 (E4M3FN): the operands of every product as 8-bit floats, by explicit Q/DQ; TensorRT takes it from SM89 on.

A scale per output channel of a weight (its largest magnitude / 448) and one per activation; sums and biases stay FP32.
ONNX Runtime's extended optimizations (1.26, 1.32) compute such graphs wrongly; its accuracy is judged without any
(`LoadOptions.exact`; tests/precisions/test_arithmetic.py).
"""

from collections.abc import Collection, Mapping

from onnx import ModelProto

from pipeline import graphs
from pipeline.graphs import quantize
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance

OPSET = 19  # the first in which QuantizeLinear knows FP8


def rewrite(model: ModelProto, keep_fp32: Collection[str], amax: Mapping[str, float]) -> ModelProto:
    """Return the graph with every product that can be quantised in FP8, but for those named in `keep_fp32`.

    `amax` is the largest magnitude of each activation, as calibration found it.

    Raises:
        BuildError: `amax` lacks an activation, or ONNX cannot raise the graph to the operator set that FP8 needs.
    """
    return quantize.quantise(graphs.copied(graphs.raise_opset(model, OPSET)), quantize.FP8, amax, keep_fp32)


PRECISION = Precision(
    name="fp8",
    tolerance=Tolerance(rtol=1e-1, atol=5e-2),
    compute_type="FLOAT8E4M3FN",
    rewrite=rewrite,
    cpu_computes=False,
    reaches=quantize.reaches,
    calibrations=("minmax", "entropy", "percentile", "distribution"),
    targets=("sm89", "sm120", "sm121"),
)
