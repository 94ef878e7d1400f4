"""The figure on training: its measures by epoch, and its throughput."""

from typing import Any

import altair as alt

from pipeline.report.figures import Column, Figure, base, by_name, panel
from pipeline.report.run import Run


def curves(run: Run) -> Figure:
    """Draw the training's measures by epoch, training and validation, and its throughput."""
    history, samples = run.history["history"], run.dataset["samples"]["train"].plain
    seconds = run.history.plain.get("epoch_seconds", ())  # an earlier version timed no epoch
    epochs = range(1, run.history["epochs"].plain + 1)
    measures = [name for name, values in history.pairs() if not name.startswith("val_") and len(values.plain)]
    panels = []
    columns = [Column("epoch", "count")]
    rows: list[list[Any]] = [[epoch] for epoch in epochs]
    for name in measures:
        points = []
        for split, key in (("training", name), ("validation", f"val_{name}")):
            if key not in history.plain:
                continue
            columns.append(Column(f"{name}, {split}"))
            for row, value, epoch in zip(rows, history[key], epochs, strict=True):
                row.append(value)
                points.append({"epoch": epoch, "value": value.plain, "split": split})
        panels.append(panel(name, _curve(points, name), len(points)))
    if len(seconds) == len(epochs):
        columns += [Column("seconds", "seconds"), Column("images/s", "rate")]
        rates = [samples / second if second else None for second in seconds]
        for row, second, rate in zip(rows, run.history["epoch_seconds"], rates, strict=True):
            row += [second, rate]
        points = [
            {"epoch": epoch, "value": rate, "split": "training"}
            for epoch, rate in zip(epochs, rates, strict=True)
            if rate
        ]
        panels.append(panel("throughput", _curve(points, "images/s", zero=True), len(points)))
    device = run.history.plain["device"]
    return Figure(
        "training",
        "Training",
        f"Each measure by epoch, and how many images a second the training took in (on {device}, validation not "
        "counted; the first epoch also traces and compiles). Validation that turns away from training is a model that "
        "learns its images by heart.",
        panels,
        columns,
        rows,
    )


def _curve(points: list[dict[str, Any]], title: str, *, zero: bool = False) -> Any:
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=zero))
    names = list(dict.fromkeys(point["split"] for point in points))
    line = base(points).mark_line(strokeWidth=2).encode(x=x, y=y, color=by_name("split", names)["color"])
    dots = base(points).mark_point(filled=True, size=25, opacity=1).encode(x=x, y=y, **by_name("split", names))
    return alt.layer(line, dots)
