"""How far every tensor of a typed graph is from FP32's, found in bounded memory."""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from pipeline import graphs, precisions
from pipeline.artifacts.sensitivity import TensorDifference
from pipeline.data import Split
from pipeline.graphs import control_flow
from pipeline.runners import inference

TENSORS_AT_ONCE, SAMPLES_AT_ONCE = 16, 4
"""What is held while tensors are compared: so many, of so many samples, of two graphs; each is reduced to five numbers
before the next are computed. In ResNet-50 at 224 × 224 the largest tensor has 3.2 MB an image: 411 MB at most."""


class Difference:
    """How far one tensor is from FP32's, over everything added."""

    def __init__(self) -> None:
        self.largest = self.max_abs = self._sum = self._magnitude = 0.0
        self.non_finite = 0

    def add(self, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        """Compare two arrays of one shape. What is NaN or Inf in FP32 is left out."""
        known = np.isfinite(reference)
        both = known & np.isfinite(candidate)
        with np.errstate(invalid="ignore", over="ignore"):  # Inf − Inf, which `both` leaves out
            off, size = np.abs(candidate - reference), np.abs(reference)
        self.non_finite += int(np.count_nonzero(known) - np.count_nonzero(both))
        self.largest = max(self.largest, float(size.max(initial=0, where=known)))
        self.max_abs = max(self.max_abs, float(off.max(initial=0, where=both)))
        self._sum += float(off.sum(dtype=np.float64, where=both))
        self._magnitude += float(size.sum(dtype=np.float64, where=both))

    def record(self, name: str, layer: str) -> TensorDifference:
        """Return the largest difference, the mean one over FP32's mean magnitude, and how many NaN and Inf there are.

        The relative error is None where FP32 has zeros alone and the candidate does not.
        """
        relative = self._sum / self._magnitude if self._magnitude else None if self._sum else 0.0
        return TensorDifference(
            name=name, layer=layer, max_abs=self.max_abs, relative_error=relative, non_finite=self.non_finite
        )


def measure(
    model: ModelProto, candidate: ModelProto, samples: Split, progress: Callable[[int, int], None] = lambda *_: None
) -> dict[str, Difference]:
    """Compare every float tensor of the FP32 graph with the candidate's of that name; return them in the graph's order.

    Memory is bounded, see `TENSORS_AT_ONCE`; both graphs are run once for so many tensors. Tensors in the bodies of
    Loop, Scan and If, of which every round has another, are not compared; what comes out of these nodes is.
    """
    ours, theirs = graphs.element_types(model), graphs.element_types(candidate)
    results = [name for node in model.graph.node for name in node.output]
    both = [name for name in results if ours.get(name) == theirs.get(name) == TensorProto.FLOAT]
    differences = {name: Difference() for name in both}
    fp32 = precisions.get("fp32")
    for start in range(0, len(both), TENSORS_AT_ONCE):
        names = both[start : start + TENSORS_AT_ONCE]
        with (
            inference.loaded(_up_to(model, names), fp32) as reference,
            inference.loaded(_up_to(candidate, names), fp32) as other,
        ):
            for which in samples.slices(SAMPLES_AT_ONCE):
                feed = samples.feed(which)
                expected, found = reference.run(feed), other.run(feed)
                for name in names:
                    differences[name].add(expected[name], found[name])
        progress(start + len(names), len(both))
    return differences


def _up_to(model: ModelProto, names: Collection[str]) -> ModelProto:
    """Return the graph up to the last of these tensors, which become its only outputs."""
    last = max(i for i, node in enumerate(model.graph.node) if not set(names).isdisjoint(node.output))
    nodes = model.graph.node[: last + 1]
    read = {name for node in nodes for name in control_flow.read_by(node)}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, outputs, constants)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
