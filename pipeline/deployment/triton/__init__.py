"""Model repositories for NVIDIA's Triton: one for its ONNX Runtime backend, one for its TensorRT backend.

Both hold the model under the same name, and `tritonserver --model-repository=…` picks one. What is written is checked
by `check.problems`, which also holds what Triton's schema does not; `benchmarks/triton` holds it to a real server.
"""

from pipeline.deployment.triton.repository import FOLDER, write

__all__ = ["FOLDER", "write"]
