"""Small models of several signatures, as ONNX graphs and as the repositories that we write for them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from pipeline.deployment.triton import schema
from pipeline.deployment.triton.config import Batching, Wanted, build
from pipeline.tensors import Signature, TensorSpec

FLOAT, INT = np.dtype("float32"), np.dtype("int64")
TYPES = {FLOAT: TensorProto.FLOAT, INT: TensorProto.INT64}


@dataclass(frozen=True)
class Small:
    """A model: what it takes and returns, its nodes, and the sizes of its dynamic axes."""

    signature: Signature
    nodes: tuple[onnx.NodeProto, ...]
    sizes: Mapping[str, Mapping[int, int]]

    def graph(self) -> onnx.ModelProto:
        """Return it as an ONNX model."""
        names = {
            what: [helper.make_tensor_value_info(one.name, TYPES[one.dtype], _named(one)) for one in specs]
            for what, specs in (("inputs", self.signature.inputs), ("outputs", self.signature.outputs))
        }
        graph = helper.make_graph(list(self.nodes), "small", **names)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _named(spec: TensorSpec) -> list[int | str]:
    return [f"{spec.name}_{axis}" if size is None else size for axis, size in enumerate(spec.shape)]


def _signature(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> Signature:
    return Signature(tuple(inputs), tuple(outputs))


SMALL = {
    # Two inputs of which one has a dynamic axis, and two outputs.
    "several": Small(
        _signature(
            [TensorSpec("sequence", (None, None, 3), FLOAT), TensorSpec("offset", (None, 1, 3), FLOAT)],
            [TensorSpec("moved", (None, None, 3), FLOAT), TensorSpec("mean", (None, 3), FLOAT)],
        ),
        (
            helper.make_node("Add", ["sequence", "offset"], ["moved"]),
            helper.make_node("ReduceMean", ["moved"], ["mean"], axes=[1], keepdims=0),
        ),
        {"sequence": {1: 5}},
    ),
    # A batch of four and no other.
    "fixed": Small(
        _signature([TensorSpec("x", (4, 2), FLOAT)], [TensorSpec("y", (4, 2), FLOAT)]),
        (helper.make_node("Neg", ["x"], ["y"]),),
        {},
    ),
    # A sample is one number, and so is its answer.
    "number": Small(
        _signature([TensorSpec("x", (None,), INT)], [TensorSpec("y", (None,), INT)]),
        (helper.make_node("Add", ["x", "x"], ["y"]),),
        {},
    ),
}


def wanted(name: str, backend: str = "onnxruntime") -> Wanted:
    """Return what is written of one of these models."""
    small = SMALL[name]
    batching = Batching(0) if name == "fixed" else Batching(8, (8,), 100)
    return replace(Wanted(name, backend, small.signature, batching, (1,)), sizes=small.sizes)


def repository(folder: Path, *names: str) -> Path:
    """Write a repository of these models."""
    for name in names:
        (folder / name / "1").mkdir(parents=True)
        onnx.save(SMALL[name].graph(), folder / name / "1/model.onnx")
        (folder / name / schema.FILE).write_text(schema.text(build(wanted(name))), encoding="utf-8")
    return folder
