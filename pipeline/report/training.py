"""The figure on training: its measures by epoch, and its throughput."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.artifacts.history import TrainingHistory
from pipeline.report.figures import Figure, base, by_name, panel
from pipeline.report.run import Run
from pipeline.tables import Column, Table
from pipeline.tables.numbers import written
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


def beside(runs: Sequence[Run]) -> Table:
    """Return how each of several runs was trained: time to the article's recipe's accuracy, and what devices bring.

    That accuracy is the last epoch's on the validation split, of the run among them that was trained by that recipe.
    Other runs are measured at the ends of epochs.
    """
    article = next((run.history.plain for run in runs if _trained(run, "article")), None)
    aim = _aim(article) if article is not None else None
    columns = [Column("run"), Column("recipe"), Column("trained on"), Column("batch", "count")]
    columns += [Column("epochs", "count"), Column("seconds", "seconds"), Column("samples/s", "rate")]
    columns += [Column("of as many devices alone, %", "number")]
    if aim is not None:
        columns += [
            Column(f"seconds to the article's recipe's {aim.name}, {written(aim.value, 'fraction')}", "seconds")
        ]
    rows: list[list[Cell]] = []
    for run in runs:
        history = run.history
        on = " and ".join(history.plain.devices)
        row: list[Cell] = [run.name, history.recipe, on, history.batch, len(history.plain.epochs)]
        row += [sum(epoch.seconds for epoch in history.plain.epochs), history.samples_per_s, _scaling(run, runs)]
        rows.append([*row, _seconds_to(aim, history.plain)] if aim is not None else row)
    return Table("Training side by side", columns, rows)


class Aim(NamedTuple):
    """A measure of the validation split, and its value to be reached; a loss is reached from above."""

    name: str
    value: float

    def reached(self, value: float | None) -> bool:
        """Tell whether a value is as good."""
        if value is None:
            return False
        return value <= self.value if self.name.endswith("loss") else value >= self.value


def _trained(run: Run, recipe: str) -> bool:
    return bool(run.history.plain.epochs) and run.history.plain.recipe == recipe


def _aim(history: TrainingHistory) -> Aim | None:
    measures = history.epochs[-1].measures
    names = [name for name in measures if name.startswith("val_") and name.endswith("accuracy")]
    for name in (*names, "val_loss"):
        value = measures.get(name)
        if value is not None:
            return Aim(name, value)
    return None


def _seconds_to(aim: Aim, history: TrainingHistory) -> float | str:
    seconds = 0.0
    for epoch in history.epochs:
        seconds += epoch.seconds
        if aim.reached(epoch.measures.get(aim.name)):
            return seconds
    return "not reached"


def _scaling(run: Run, runs: Sequence[Run]) -> float | None:
    """Return the throughput of several devices in percent of as many times that of one, trained in the same way."""
    history = run.history.plain
    if len(history.devices) == 1 or history.samples_per_s is None:
        return None
    for other in (one.history.plain for one in runs):
        alike = (other.backend, other.dataset, other.recipe) == (history.backend, history.dataset, history.recipe)
        if alike and len(other.devices) == 1 and other.samples_per_s:
            return 100 * history.samples_per_s / (len(history.devices) * other.samples_per_s)
    return None


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
