"""INT8: the operands of every product as 8-bit integers, by explicit Q/DQ, as TensorRT takes them.

Symmetric with zero point 0, a scale per output channel of a weight and one per activation; sums and biases are not
quantised.
"""

from collections.abc import Collection, Mapping

from onnx import ModelProto

from pipeline import graphs
from pipeline.graphs import quantize
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance


def rewrite(model: ModelProto, keep_fp32: Collection[str], amax: Mapping[str, float]) -> ModelProto:
    """Return the graph with every product that can be quantised in INT8, but for those named in `keep_fp32`.

    `amax` is the largest magnitude of each activation, as calibration found it.

    Raises:
        BuildError: `amax` lacks an activation.
    """
    return quantize.quantise(graphs.copied(model), quantize.INT8, amax, keep_fp32)


PRECISION = Precision(
    name="int8",
    tolerance=Tolerance(rtol=1e-1, atol=5e-2),
    compute_type="INT8",
    rewrite=rewrite,
    reaches=quantize.reaches,
    calibrations=("minmax", "entropy", "percentile"),
)
