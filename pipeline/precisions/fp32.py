"""FP32: the exported graph as it is, with TensorRT's TF32 switched off."""

from pipeline.precisions import Precision
from pipeline.tensors import Tolerance

# Sums of the same products in another order: measured at most 2e-6 in probabilities; 1e-5 leaves deeper networks room.
PRECISION = Precision(name="fp32", tolerance=Tolerance(rtol=1e-4, atol=1e-5), compute_type="FLOAT")
