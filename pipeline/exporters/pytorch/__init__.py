"""ONNX by PyTorch's exporter, for what tf2onnx cannot convert: the same model, under Keras's PyTorch backend.

PyTorch and TensorFlow do not share a process well, and PyTorch is large: it lies in an environment of its own, in which
a process of its own does the work (`child.py`). docs/decisions/0011-a-second-exporter.md
"""

import json
import tempfile
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import onnx

from pipeline import graphs
from pipeline.errors import BuildError
from pipeline.exporters import Exportable, Kind
from pipeline.exporters.pytorch import venv, words
from pipeline.graphs import files, fold, simplify
from pipeline.models import calling

FILE = "model.onnx"
ARTIFACT: Literal["onnx"] = "onnx"
TAKES: tuple[Kind, ...] = ("function", "keras")
RANK = 1

versions = venv.versions


def write(model: Exportable, path: Path, opset: int) -> str:
    """Write an ONNX file that the ONNX checker has passed in full.

    Raises:
        BackendUnavailable: PyTorch's environment is not here.
        BuildError: PyTorch cannot export the model, or wrote a graph that is not what was asked for.
    """
    graph = _simplified(_export(model, opset))
    graphs.check(graph, "export: PyTorch's graph")
    _check_signature(graph, model)
    files.save(graph, path)
    nodes, size = len(graph.graph.node), files.written(path)
    return f"ONNX by PyTorch: opset {graphs.opset(graph)}, {nodes} nodes, {size:,} bytes, checked in full"


def _export(model: Exportable, opset: int) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keras_model = calling.functional(model.owner, calling.caller(model.owner))
        keras_model.save(folder / "model.keras")
        weights = sum(int(np.prod(one.shape)) * 4 for one in keras_model.weights)
        request = {
            "model": str(folder / "model.keras"),
            "imports": _modules(),
            "inputs": [
                {"name": one.name, "shape": one.shape, "dtype": one.dtype.name} for one in model.signature.inputs
            ],
            "outputs": [one.name for one in model.signature.outputs],
            "opset": opset,
            "output": str(folder / "model.onnx"),
            "memory_bytes": venv.memory_for(weights),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        venv.run(folder / "request.json", folder / "answer.json")
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        if answer["error"]:
            raise words.told(answer["error"], answer["message"], model.signature)
        return onnx.load(folder / "model.onnx")


def _modules() -> list[str]:
    """Return the modules that have registered layers or functions with Keras in this process."""
    found = {one.__module__ for one in keras.saving.get_custom_objects().values()}
    return sorted(name for name in found if name.partition(".")[0] not in ("keras", "__main__"))


def _simplified(graph: onnx.ModelProto) -> onnx.ModelProto:
    return simplify.simplify(fold.fold(graph))


def _check_signature(graph: onnx.ModelProto, model: Exportable) -> None:
    """Raise BuildError unless the graph takes what the model does, and has its outputs."""
    asked, found = list(model.signature.inputs), list(graphs.inputs(graph))
    names = [[one.name for one in outputs] for outputs in (model.signature.outputs, graphs.outputs(graph))]
    if found != asked or names[0] != names[1]:
        raise BuildError(
            f"export: PyTorch gave the graph the inputs {', '.join(map(str, found))} and the outputs "
            f"{', '.join(names[1])}, not {', '.join(map(str, asked))} and {', '.join(names[0])}",
            "An input that the outputs do not depend on is left out: take it out of the model.",
        )
