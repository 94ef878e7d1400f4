"""The page: one file with everything in it, without scripts, made from what the artifacts say."""

import base64
import io
import json
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline import environment, graphs
from pipeline.artifacts import results
from pipeline.graphs import keras_layers
from pipeline.measuring import comparison
from pipeline.report import accuracy, numbers, speed, training
from pipeline.report import run as runs
from pipeline.report.figures import Column
from pipeline.report.run import Run

SIDE = 112
"""Pixels of a drawn image's longer side at most; a small one is enlarged by the page, pixel by pixel."""


def render(run: Run, others: Sequence[Run] = ()) -> str:
    """Return the page of a run as HTML, beside other runs where some are given."""
    jinja = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "marked": numbers.marked,
        "written": numbers.written,
        "machine": environment.describe_machine,
        "command": shlex.join,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    keras_names = keras_layers.keras_layer_names(run.root / "train/model.keras")
    return jinja.get_template("page.html.j2").render(
        run=run,
        names=run.dataset.plain["class_names"],
        originals=len({cell.plain["variant"] for cell in run.cells(backend="tensorflow", mode="end_to_end")}),
        failings=runs.failings(run),
        headlines=runs.headlines(run),
        accuracies=run.accuracies().values(),
        not_run=runs.not_run(run),
        untimed_engines=runs.untimed_engines(run),
        figures={
            figure.key: figure
            for figure in (
                accuracy.parity(run),
                accuracy.trade_off(run),
                speed.distributions(run),
                speed.throughput(run),
                speed.limits(run),
                training.curves(run),
            )
        },
        disagreements=disagreements(run),
        layer_columns=[Column("layer"), Column("operator"), Column("reads"), Column("writes")],
        layers=[layers(run, sidecar.plain, keras_names) for sidecar in run.sidecars],
        comparison=beside(run, others) if others else None,
    )


def disagreements(run: Run) -> list[dict[str, Any]]:
    """Return for each candidate the images to which it gives another answer than the original, drawn."""
    if run.disagreements is None:
        return []
    with np.load(run.root / "validate/disagreements.npz", allow_pickle=False) as kept:
        images = dict(zip(kept["indices"].tolist(), kept["images"], strict=True))
    return [
        {
            "candidate": row["candidate"],
            "count": row["count"],
            "samples": [(sample, draw(images[sample["index"].plain])) for sample in row["samples"]],
        }
        for row in run.disagreements["candidates"]
    ]


def draw(image: "np.ndarray[Any, Any]") -> str:
    """Return an image, uint8 [height, width, channels], as a data URI; of 2 or of more than 4 channels the first."""
    from PIL import Image

    pixels = image if image.shape[-1] in (3, 4) else image[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def layers(run: Run, sidecar: dict[str, Any], keras_names: Sequence[str]) -> dict[str, Any]:
    """Return an engine's layers as its inspector lists them, or else the nodes of the graph that it was built from.

    A row is: Keras layer or engine layer, operator, type of its first input, type of its first output.
    """
    from onnx import TensorProto

    folder = run.root / "engine" / sidecar["precision"]
    found: dict[str, Any] = {
        "precision": sidecar["precision"],
        "of": "",
        "rows": [],
        "why": sidecar["runs_here_reason"],
    }
    if sidecar["layers"] is not None:
        return found | {"of": "engine", "rows": _engine_layers(folder)}
    if not sidecar["onnx"]:
        return found | {"why": sidecar["reason"]}
    model = graphs.load(folder / "model.onnx")
    types = graphs.element_types(model)

    def name(tensor: str) -> str:
        return TensorProto.DataType.Name(types[tensor]) if types.get(tensor) else ""

    homes = {node: group.name for group in keras_layers.groups(model, keras_names) for node in group.nodes}
    rows = [
        (homes.get(node.name, node.name), node.op_type, name(next(iter(node.input), "")), name(node.output[0]))
        for node in model.graph.node
    ]
    return found | {"of": "graph", "rows": rows}


def _engine_layers(folder: Any) -> list[tuple[str, str, str, str]]:
    from pipeline import artifacts
    from pipeline.backends.tensorrt import inspection

    def first(layer: dict[str, Any], key: str) -> str:
        return next(filter(None, map(inspection.tensor_type, layer.get(key, ()))), "")

    return [
        (str(layer.get("Name", "")), str(layer.get("LayerType", "")), first(layer, "Inputs"), first(layer, "Outputs"))
        for layer in artifacts.read_json(folder / "layers.json")["layers"]
    ]


def beside(run: Run, others: Sequence[Run]) -> dict[str, Any]:
    """Return what the page shows of several runs: their medians, and this run against each other one, cell by cell."""
    everything = [run, *others]
    timed = {
        one.root: results.parse(one.results.plain, one.root / "benchmark/results.json")
        for one in everything
        if one.results
    }
    return {
        "runs": [(one, runs.headlines(one)) for one in everything],
        "against": [
            (other, comparison.compare(timed[other.root], timed[run.root]))
            for other in others
            if other.root in timed and run.root in timed
        ],
        "figure": speed.side_by_side(everything),
    }
