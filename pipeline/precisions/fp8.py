"""FP8 (E4M3FN): the operands of products as 8-bit floats, by explicit Q/DQ; TensorRT takes it from SM89 on.

A scale per output channel of a weight (its largest magnitude / 448) and one per activation; sums and biases are not
quantised. ONNX Runtime's extended optimizations (1.26, 1.32) compute such graphs wrongly; its accuracy is judged
without any (`LoadOptions.exact`; tests/precisions/test_arithmetic.py).
"""

from pipeline.graphs import quantize
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance

PRECISION = Precision(
    name="fp8",
    tolerance=Tolerance(rtol=1e-1, atol=5e-2),
    compute_type="FLOAT8E4M3FN",
    form=quantize.FP8,
    cpu_computes=False,
    calibrations=("minmax", "entropy", "percentile", "distribution"),
    targets=("sm89", "sm120", "sm121"),
)
