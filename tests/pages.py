"""Reading a page of the report as a reader's browser would, and making one from a run's artifacts."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from pipeline.artifacts import Manifest, store
from pipeline.artifacts.results import BenchmarkResults
from pipeline.report import page
from pipeline.report import run as runs

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'\""

LAYER = "<script>"


class Number(NamedTuple):
    """A `data` element: its value in full, where it was read (or None), and the text that people see."""

    value: float
    source: str | None
    text: str


class Page(HTMLParser):
    """What a page holds: its numbers, its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.numbers: list[Number] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.styles: list[str] = []
        self.text = ""
        self._number: tuple[float, str | None] | None = None
        self._style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.elements.append((tag, known))
        self._style = tag == "style"
        if tag == "data":
            self._number = float(known["value"]), known.get("data-from")

    def handle_endtag(self, tag: str) -> None:
        self._style = False
        if tag == "data":
            self._number = None

    def handle_data(self, data: str) -> None:
        if self._style:
            self.styles.append(data)
            return
        self.text += data
        if self._number:
            self.numbers.append(Number(*self._number, data))


def read(artifacts: Path, name: str = "") -> runs.Run:
    """Read a run as the report stage does, without verifying it: tests change the files."""
    names = [stage for stage in runs.STAGES if (artifacts / stage).is_dir()]
    manifests = {stage: Manifest.read(artifacts / stage / "manifest.json") for stage in names}
    return runs.read(artifacts, manifests, {}, name)


def change(artifacts: Path, file: str, **values: Any) -> Any:
    """Change keys of a JSON artifact; return its content."""
    path = artifacts / file
    tree = json.loads(path.read_text("utf-8")) | values
    path.write_text(json.dumps(tree), encoding="utf-8")
    return tree


def list_anew(artifacts: Path, stage: str) -> None:
    """Write into a stage's manifest what is in its folder now."""
    path = artifacts / stage / store.MANIFEST
    Manifest.read(path).model_copy(update={"outputs": store.records(artifacts / stage)}).write(path)


def _rename_layer(artifacts: Path, old: str, new: str) -> None:
    """Give a layer of the Keras model, and its nodes in the FP32 graph, another name."""
    layers = json.loads((artifacts / "train/model.json").read_text("utf-8"))["layers"]
    change(artifacts, "train/model.json", layers=[new if name == old else name for name in layers])
    graph = artifacts / "engine/fp32/model.onnx"
    model = onnx.load(graph)
    for node in model.graph.node:
        node.name = re.sub(rf"/{old}(_\d+)?/", f"/{new}/", node.name)
    onnx.save(model, graph)


NAMED = {"reason", "device", "over_device", "chosen", "basis", "next", "over"}
"""Keys below which an artifact has text of its own, besides the names of runners."""


def _hostile(tree: Any, key: str = "") -> Any:
    """Return JSON with markup and script in every text of its own and in every runner's name."""
    if isinstance(tree, dict):
        return {
            name: f"{value}{HOSTILE}" if name == "name" and "backend" in tree else _hostile(value, name)
            for name, value in tree.items()
        }
    if isinstance(tree, list):
        return [_hostile(value, key) for value in tree]
    named = key in {*NAMED, "runner", "reference", "candidate"}
    return f"{tree}{HOSTILE}" if named and isinstance(tree, str) else tree


def hostile(artifacts: Path) -> str:
    """Put markup and script wherever an artifact has text, and return the page of it."""
    _rename_layer(artifacts, "conv2d", LAYER)
    (target,) = json.loads((artifacts / "train/dataset.json").read_text("utf-8"))["targets"]
    target["class_names"] = [f"{HOSTILE}{name}" for name in target["class_names"]]
    change(artifacts, "train/dataset.json", targets=[target], substitute=HOSTILE)
    answer = {"text": HOSTILE, "score": 0.5}
    sample = {"index": 0, "expected": HOSTILE, "reference": answer, "candidate": answer}
    row = {"runner": HOSTILE, "reference": "keras", "output": HOSTILE, "task": "classification", "means": HOSTILE}
    row |= {"count": 1, "samples": [sample]}
    change(artifacts, "validate/disagreements.json", runners=[row])
    images = np.zeros((1, 28, 28, 1), np.uint8)
    np.savez(artifacts / "validate/disagreements.npz", indices=np.array([0]), **{"input/image": images})
    for file in ("validate/parity.json", "benchmark/results.json", "benchmark/recommendation.json"):
        tree = json.loads((artifacts / file).read_text("utf-8"))
        (artifacts / file).write_text(json.dumps(_hostile(tree)), encoding="utf-8")
    results = BenchmarkResults.read(artifacts / "benchmark/results.json")
    with np.load(artifacts / "benchmark/samples.npz") as old:
        rounds = {key.replace(HOSTILE, ""): key for key in (cell.key for cell in results.cells)}
        renamed = {f"{rounds[key.rpartition('/')[0]]}/{key.rpartition('/')[2]}": old[key] for key in old.files}
    np.savez(artifacts / "benchmark/samples.npz", **renamed)
    return page.render(read(artifacts))
