"""TF32: the FP32 graph, its matrix products with operands rounded to 10 explicit mantissa bits on tensor cores.

The graph is FP32's: TF32 is TensorRT's builder flag. A CPU has no such arithmetic, so its accuracy is emulated there by
rounding both operands of every product in FP32; sums stay FP32, as on tensor cores.
"""

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from pipeline.graphs import arithmetic
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance

# Veltkamp's splitting (T. J. Dekker, Numer. Math. 18, 1971): with c = (2^s + 1)·x, the difference c − (c − x) is x
# rounded to nearest with 24 − s significant bits. TF32 has 11 (10 stored), so s = 13.
SPLIT = np.asarray(2**13 + 1, np.float32)


def _rounded(tensor: str, cache: dict[str, str], nodes: list[NodeProto], factor: str) -> str:
    """Append the nodes that round `tensor` once, and return the name of the result."""
    if tensor not in cache:
        scaled, rest, high = (f"{tensor}/tf32_{part}" for part in ("scaled", "rest", "high"))
        nodes += [
            helper.make_node("Mul", [tensor, factor], [scaled], name=scaled),
            helper.make_node("Sub", [scaled, tensor], [rest], name=rest),
            helper.make_node("Sub", [scaled, rest], [high], name=high),
        ]
        cache[tensor] = high
    return cache[tensor]


def emulate(model: ModelProto) -> ModelProto:
    """Return an FP32 graph in which both operands of every Conv, Gemm and MatMul are rounded to TF32."""
    emulated = ModelProto()
    emulated.CopyFrom(model)
    factor = "tf32_split_factor"
    emulated.graph.initializer.append(numpy_helper.from_array(SPLIT, factor))
    cache: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in emulated.graph.node:
        if node.op_type in arithmetic.COMPUTE_OPS:
            node.input[0] = _rounded(node.input[0], cache, nodes, factor)
            node.input[1] = _rounded(node.input[1], cache, nodes, factor)
        nodes.append(node)
    del emulated.graph.node[:]
    emulated.graph.node.extend(nodes)
    return emulated


# A TF32 operand is off by at most 2^-11 of itself; measured 4e-4 in this project's probabilities.
PRECISION = Precision(
    name="tf32",
    tolerance=Tolerance(rtol=1e-2, atol=2e-3),
    compute_type="FLOAT",
    allow_tf32=True,
    emulate=emulate,
    cpu_computes=False,
)
