"""The figure on training: its measures by epoch, and its throughput."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.report.figures import Figure, base, by_name, panel
from pipeline.report.run import Run
from pipeline.tables import Column, Table
from pipeline.tables.table import Cell


class Measure(NamedTuple):
    """A measure after an epoch, of the training or the validation split."""

    epoch: int
    value: float
    split: str


def curves(run: Run) -> Figure:
    """Draw the training's measures by epoch, training and validation, and its throughput."""
    history, samples = run.history.history, run.dataset.plain.samples.train
    epochs = range(1, run.history.plain.epochs + 1)
    measures = [name for name, values in history.pairs() if not name.startswith("val_") and len(values)]
    panels = []
    columns = [Column("epoch", "count")]
    rows: list[list[Cell]] = [[epoch] for epoch in epochs]
    for name in measures:
        points = []
        for split, key in (("training", name), ("validation", f"val_{name}")):
            if key not in history.plain:
                continue
            columns.append(Column(f"{name}, {split}", "number"))
            for row, value, epoch in zip(rows, history[key], epochs, strict=True):
                row.append(value)
                points.append(Measure(epoch, value.plain, split))
        panels.append(panel(name, _curve(points, name), len(points)))
    columns += [Column("seconds", "seconds"), Column("samples/s", "rate")]
    rates = []
    for row, second, epoch in zip(rows, run.history.epoch_seconds, epochs, strict=True):
        rate = samples / second.plain if second else None
        row += [second, rate]
        rates += [Measure(epoch, rate, "training")] if rate else []
    if rates:
        panels.append(panel("throughput", _curve(rates, "samples/s", zero=True), len(rates)))
    if not run.history.plain.epochs:
        return Figure("training", "Training", empty="None: the model was adopted as it is.")
    return Figure(
        "training",
        "Training",
        "Each measure by epoch, and how many samples a second the training took in (on "
        f"{run.history.plain.device}, validation not counted; the first epoch also traces and compiles). Validation "
        "that drifts away from training is a sign of overfitting.",
        panels,
        [Table("Training", columns, rows)],
    )


def _curve(points: Sequence[Measure], title: str, *, zero: bool = False) -> Any:
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=zero))
    names = list(dict.fromkeys(point.split for point in points))
    line = base(points).mark_line(strokeWidth=2).encode(x=x, y=y, color=by_name("split", names)["color"])
    dots = base(points).mark_point(filled=True, size=25, opacity=1).encode(x=x, y=y, **by_name("split", names))
    return alt.layer(line, dots)
