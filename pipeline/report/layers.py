"""What each engine computes in, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import graphs
from pipeline.artifacts.engine import EngineLayers, EngineRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.graphs import keras_layers
from pipeline.report.run import Run
from pipeline.tables import Column, Table

COLUMNS = (Column("layer"), Column("operator"), Column("reads"), Column("writes"))
"""Keras layer or engine layer, its operator, the types of its first input and its first output."""

ENGINE_COLUMNS = (*COLUMNS, Column("profile best at batch", "count"))
"""Of an engine's layer also the batch that its profile is best at: each profile has layers of its own."""


@dataclass(frozen=True)
class Layers:
    """The layers of one precision.

    `of` is "engine" where its inspector listed them, "graph" where they are the nodes of the graph that it was built
    from, empty where there is neither; `why` says why they are not the engine's own.
    """

    precision: str
    of: str
    why: str
    table: Table


def layers(run: Run) -> list[Layers]:
    """Return an engine's layers as its inspector lists them, or else the nodes of its graph, for each precision."""
    keras_names = run.published.read(ModelRecord).layers
    return [_of_one(run, engine.plain, keras_names) for engine in run.engines]


def _of_one(run: Run, engine: EngineRecord, keras_names: Sequence[str]) -> Layers:
    precision = engine.precision
    title = f"{precision}, layer by layer"
    listed = run.published.read_if_there(EngineLayers, f"engine/{precision}/layers.json")
    if listed is not None:
        rows = [
            (layer.name, layer.kind, layer.reads, layer.writes, engine.profiles[layer.profile].opt)
            for layer in listed.layers
        ]
        return Layers(precision, "engine", "", Table(title, ENGINE_COLUMNS, rows))
    if engine.onnx is None:
        return Layers(precision, "", engine.reason, Table(title, COLUMNS, ()))
    nodes = _nodes(run, f"engine/{precision}/model.onnx", keras_names)
    return Layers(precision, "graph", engine.runs_here_reason, Table(title, COLUMNS, nodes))


def _nodes(run: Run, path: str, keras_names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    from onnx import TensorProto

    model = graphs.load(run.published.path(path), weights=False)
    types = graphs.element_types(model)

    def name(tensor: str) -> str:
        return TensorProto.DataType.Name(types[tensor]) if types.get(tensor) else ""

    homes = keras_layers.homes(model, keras_names)
    return [
        (homes.get(node.name, node.name), node.op_type, name(next(iter(node.input), "")), name(node.output[0]))
        for node in model.graph.node
    ]
