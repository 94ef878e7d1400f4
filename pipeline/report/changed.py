"""The samples to which a runner gives another answer than the original model, or a worse one: drawn, or as a table."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipeline.artifacts.disagreements import DifferingSample
from pipeline.report.run import Run
from pipeline.tables import Column, Table
from pipeline.tables.table import Cell, Mixed, Number
from pipeline.tables.traced import Traced
from pipeline.tensors import Array

SIDE = 112
"""Pixels of a drawn image's longer side at most; a small one is enlarged by the page, pixel by pixel."""

SHOWN = 4
"""Numbers of an input that a table shows."""


class Drawn(NamedTuple):
    """A sample with two answers, and its image as a data URI."""

    sample: Traced[DifferingSample]
    uri: str


@dataclass(frozen=True)
class Differing:
    """A runner's other answers, of one output: to how many samples, and those that changed most."""

    runner: str
    output: str
    means: str
    count: Traced[int]
    kind: str
    """How a score is written."""
    drawn: list[Drawn]
    table: Table

    @property
    def name(self) -> str:
        """The runner, with the output where there are several."""
        return f"{self.runner}, {self.output}" if self.output else self.runner

    @property
    def shown(self) -> int:
        """How many samples are shown."""
        return len(self.table.rows)


@dataclass(frozen=True)
class Changed:
    """What the page shows of samples that changed; `noun` is what it calls a sample."""

    noun: str
    rows: list[Differing]


def changed(run: Run) -> Changed:
    """Return for each runner the samples to which it gives another or a worse answer than the original."""
    with np.load(run.published.path("validate/disagreements.npz"), allow_pickle=False) as kept:
        places = {int(index): place for place, index in enumerate(kept["indices"])}
        inputs = {name.removeprefix("input/"): kept[name] for name in kept.files if name != "indices"}
    several = len(run.parity.plain.outputs) > 1
    image = _image(run, inputs)
    rows = []
    for one in run.disagreements.runners:
        drawn = []
        if image:
            drawn = [Drawn(sample, draw(inputs[image][places[sample.index.plain]])) for sample in one.samples]
        kind = "fraction" if one.task.plain == "classification" else "number"
        rows.append(
            Differing(
                str(one.runner),
                str(one.output) if several else "",
                str(one.means),
                one.count,
                kind,
                drawn,
                _table(one, inputs, places, kind),
            )
        )
    return Changed("image" if image else "sample", rows)


def _image(run: Run, inputs: Mapping[str, Array]) -> str:
    """Return the first input that is an image, by its shape, type and range; empty where there is none."""
    for one in run.dataset.plain.inputs:
        if one.spec.image_like and _drawable(inputs.get(one.name)):
            return one.name
    return ""


def _drawable(rows: Array | None) -> bool:
    """Tell whether numbers are those of pixels: uint8, or within 0 and 1 or 0 and 255."""
    if rows is None or rows.dtype == np.uint8 or not rows.size:
        return rows is not None
    return bool(np.isfinite(rows).all() and rows.min() >= 0 and rows.max() <= 255)


def _table(one: Any, inputs: Mapping[str, Array], places: Mapping[int, int], kind: str) -> Table:
    columns = [Column("sample", "count"), *(Column(name) for name in inputs), Column("expected")]
    columns += [Column("original"), Column(str(one.runner))]
    rows: list[list[Cell]] = []
    for sample in one.samples:
        fed: Sequence[Cell] = [_few(rows_of[places[sample.index.plain]]) for rows_of in inputs.values()]
        rows.append([sample.index, *fed, str(sample.expected), _answer(sample.reference, kind)])
        rows[-1].append(_answer(sample.candidate, kind))
    return Table(f"Samples that changed most by {one.runner}", columns, rows)


def _answer(answer: Any, kind: str) -> Mixed:
    return Mixed((f"{answer.text} (", Number(answer.score, kind), ")"))


def _few(values: Array) -> str:
    flat = values.reshape(-1)
    shown = ", ".join(f"{value:.4g}" if values.dtype.kind == "f" else str(value) for value in flat[:SHOWN])
    return shown if len(flat) <= SHOWN else f"{shown}, … ({len(flat):,})"


def draw(image: Array) -> str:
    """Return an image [height, width, channels] as a data URI: uint8, or floats within 0 and 1 or 0 and 255.

    Of 2 or of more than 4 channels the first is drawn.
    """
    from PIL import Image

    pixels = image if image.shape[-1] in (3, 4) else image[..., 0]
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels * (255 if pixels.max(initial=0) <= 1 else 1)).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
