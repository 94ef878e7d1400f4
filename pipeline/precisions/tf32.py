"""TF32: the FP32 graph, its matrix products with operands rounded to 10 explicit mantissa bits on tensor cores.

The graph is FP32's: TF32 is TensorRT's builder flag. A CPU has no such arithmetic, so its accuracy is emulated there by
rounding both operands of every product in FP32; sums stay FP32, as on tensor cores.
"""

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pipeline import graphs
from pipeline.graphs import arithmetic, control_flow
from pipeline.precisions import Precision
from pipeline.tensors import Tolerance

# Veltkamp's splitting (T. J. Dekker, Numer. Math. 18, 1971): with c = (2^s + 1)·x, the difference c − (c − x) is x
# rounded to nearest with 24 − s significant bits. TF32 has 11 (10 stored), so s = 13.
SPLIT = np.asarray(2**13 + 1, np.float32)
FACTOR = "tf32_split_factor"


class _Rounding:
    """Rounds the operands of a graph's products, each tensor once; one for a body asks the graph around it."""

    def __init__(self, graph: GraphProto, around: "_Rounding | None" = None) -> None:
        self.graph, self.around = graph, around
        self.types: dict[str, int] = control_flow.element_types(graph, around.types if around else {})
        self.own = control_flow.own_tensors(graph)
        self.rounded: dict[str, str] = {}
        self.nodes: list[NodeProto] = []

    def rewrite(self) -> None:
        """Put the rounding before every product."""
        for node in self.graph.node:
            for body in control_flow.bodies(node):
                _Rounding(body, self).rewrite()
            count = 3 if node.op_type in arithmetic.RECURRENT else 2 if node.op_type in arithmetic.COMPUTE_OPS else 0
            for i, name in enumerate(node.input[:count]):
                if self.types.get(name) == TensorProto.FLOAT:
                    node.input[i] = self._round(name)
            self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)

    def _round(self, tensor: str) -> str:
        """Return the name of the tensor rounded, which is appended where it is not there yet."""
        if tensor not in self.own and self.around:
            return self.around._round(tensor)
        if tensor not in self.rounded:
            scaled, rest, high = (f"{tensor}/tf32_{part}" for part in ("scaled", "rest", "high"))
            self.nodes += [
                helper.make_node("Mul", [tensor, FACTOR], [scaled], name=scaled),
                helper.make_node("Sub", [scaled, tensor], [rest], name=rest),
                helper.make_node("Sub", [scaled, rest], [high], name=high),
            ]
            self.rounded[tensor] = high
        return self.rounded[tensor]


def emulate(model: ModelProto) -> ModelProto:
    """Return an FP32 graph in which both operands of every product are rounded to TF32.

    The state of a recurrent operator, which never leaves it, is not.
    """
    emulated = graphs.inferred(model)
    _Rounding(emulated.graph).rewrite()
    emulated.graph.initializer.append(numpy_helper.from_array(SPLIT, FACTOR))
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
