"""An ONNX file that the user brought: simplified where that works, and else as it is."""

from pathlib import Path
from typing import Literal

from google.protobuf.message import EncodeError
from onnx import inliner

from pipeline import environment, graphs
from pipeline.errors import BuildError, first_line
from pipeline.exporters import Exportable, Kind
from pipeline.graphs import files, simplify

FILE = "model.onnx"
ARTIFACT: Literal["onnx"] = "onnx"
TAKES: tuple[Kind, ...] = ("onnx",)
RANK = 0


def versions() -> dict[str, str]:
    """Return the versions of what it works with; they are required packages."""
    return environment.versions_of("onnx", "onnxslim")


def write(model: Exportable, path: Path, opset: int) -> str:
    """Write the graph; it keeps its own operator set, whatever `opset` says."""
    given = graphs.load(model.path)
    if given.functions:
        try:
            given = inliner.inline_local_functions(given)
        except EncodeError as error:  # protobuf's limit, of which its words say nothing
            raise BuildError(
                "ONNX cannot inline the functions of a model of 2 GB or more", "Export it anew, without functions."
            ) from error
    given = graphs.with_names(given)
    graph, how = given, "as it is: it is quantised already"
    if not graphs.narrowed_by(given):  # folding its constants would undo the quantising of weights
        try:
            graph, how = simplify.simplify(given), "simplified"
            graphs.check(graph, "the simplified graph")
        except BuildError as error:
            graph, how = given, f"as it is: {first_line(error)}"
    files.save(graph, path)
    return f"ONNX: opset {graphs.opset(graph)}, {len(graph.graph.node)} nodes, {files.written(path):,} bytes, {how}"
