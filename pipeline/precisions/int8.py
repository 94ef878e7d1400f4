"""INT8: the operands of products as 8-bit integers, by explicit Q/DQ, as TensorRT takes them.

Symmetric with zero point 0, a scale per output channel of a weight and one per activation; sums and biases are not
quantised.
"""

from pipeline.graphs import quantize
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance

PRECISION = Precision(
    name="int8",
    tolerance=Tolerance(rtol=1e-1, atol=5e-2),
    compute_type="INT8",
    form=quantize.INT8,
    calibrations=("minmax", "entropy", "percentile"),
)
