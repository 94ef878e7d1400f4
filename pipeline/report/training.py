"""The figure on training: its measures by epoch, and its throughput."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.artifacts.history import TrainingHistory
from pipeline.report.figures import Figure, base, by_name, panel
from pipeline.report.run import Run
from pipeline.tables import Column, Table
from pipeline.tables.table import Cell

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


class Measure(NamedTuple):
    """A measure after an epoch, of the training or the validation split."""

    epoch: int
    value: float
    split: str


def curves(run: Run) -> Figure:
    """Draw the training's measures by epoch, training and validation, its learning rate and its throughput."""
    history, samples = run.history, run.dataset.plain.samples.train
    epochs = history.plain.epochs
    if not epochs:
        return Figure("training", "Training", empty="None: the model was adopted as it is.")
    numbers = range(1, len(epochs) + 1)
    panels = []
    columns = [Column("epoch", "count")]
    rows: list[list[Cell]] = [[number] for number in numbers]
    for name in dict.fromkeys(key.removeprefix("val_") for key in epochs[0].measures):
        points = []
        for split, key in (("training", name), ("validation", f"val_{name}")):
            if key not in epochs[0].measures:
                continue
            columns.append(Column(f"{name}, {split}", "number"))
            for row, epoch, number in zip(rows, history.epochs, numbers, strict=True):
                row.append(epoch.measures[key])
                value = epoch.measures[key].plain
                points += [Measure(number, value, split)] if value is not None else []
        panels.append(panel(name, _curve(points, name), len(points)))
    columns += [*(Column(name, "seconds") for name in ("seconds", "waiting for data")), Column("samples/s", "rate")]
    columns += [Column("learning rate", "number")]
    rates, falling = [], []
    for row, epoch, number in zip(rows, history.epochs, numbers, strict=True):
        seconds, learning_rate = epoch.seconds.plain, epoch.learning_rate.plain
        rate = samples / seconds if seconds else None
        row += [epoch.seconds, epoch.waited_s, rate, epoch.learning_rate]
        rates += [Measure(number, rate, "training")] if rate else []
        falling += [Measure(number, learning_rate, "training")] if learning_rate is not None else []
    if rates:
        panels.append(panel("throughput", _curve(rates, "samples/s", zero=True), len(rates)))
    if falling:
        panels.append(panel("learning rate", _curve(falling, "learning rate", zero=True), len(falling)))
    return Figure(
        "training",
        "Training",
        "Each measure by epoch, how many samples a second the training took in, and the learning rate at the end of "
        f"each. {told(history.plain)}{_share(run)} Validation that drifts away from training is a sign of overfitting.",
        panels,
        [Table("Training", columns, rows)],
    )


def told(history: TrainingHistory) -> str:
    """Return how the model was trained, in a sentence or more."""
    steps, waits = history.steps_per_epoch, [epoch.waited_s for epoch in history.epochs if epoch.waited_s is not None]
    seconds = sum(epoch.seconds for epoch in history.epochs)
    waited = f", of which it waited {sum(waits):.2f} s for data" if waits else ""
    stopped = "" if history.best_epoch is None else f" Epoch {history.best_epoch}, of the lowest loss, was taken."
    resumed = "" if not history.resumed_at else f" It went on from a checkpoint at {history.resumed_at}."
    on = f"{' and '.join(history.devices)} (Keras on {BACKENDS[history.backend]})"
    return (
        f"Recipe {history.recipe}: {len(history.epochs)} epochs of {steps} steps of {history.batch} samples on {on}, "
        f"in {seconds:.1f} s without validation{waited}, from data "
        f"{'kept in memory' if history.in_memory else 'read anew in each epoch'}; the first epoch also traces and "
        f"compiles.{stopped}{resumed}"
    )


INFERENCES = 3
"""How many inferences a training step's multiply-accumulates are counted as: forward, and both gradients of a product.
A first layer needs only one of these, so that this is the most that a step does."""


def _share(run: Run) -> str:
    """Say how near the training came to the machine's limit, where the benchmark measured that on the same device."""
    history, results = run.history.plain, run.results.plain if run.results else None
    if results is None or history.samples_per_s is None or history.devices != ("cpu",):
        return ""
    peaks = next((one for one in results.limits.values() if one.device == "cpu"), None)
    peak = peaks.macs_per_s.get("fp32") if peaks else None
    for cell in results.cells:
        if peak and cell.runner.precision == "fp32" and cell.limit and cell.limit.compute_us:
            macs = cell.limit.compute_us / 1e6 * peak / cell.batch
            share = history.samples_per_s * INFERENCES * macs / peak
            return (
                f" That is at most {100 * share:.1f} % of the machine's limit, {peak / 1e9:.0f} GMAC/s in FP32: a step "
                "is counted as three inferences."
            )
    return ""


def _curve(points: Sequence[Measure], title: str, *, zero: bool = False) -> Any:
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(zero=False))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=zero))
    names = list(dict.fromkeys(point.split for point in points))
    line = base(points).mark_line(strokeWidth=2).encode(x=x, y=y, color=by_name("split", names)["color"])
    dots = base(points).mark_point(filled=True, size=25, opacity=1).encode(x=x, y=y, **by_name("split", names))
    return alt.layer(line, dots)
