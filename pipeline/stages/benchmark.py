"""Stage 5: time every runner, in turn and under one clock, against the original; recommend the fastest that passed."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline import backends, data, environment, precisions, tables
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults, NoiseFloor, RunEnvironment, Span
from pipeline.data import Dataset
from pipeline.errors import ArtifactError, BackendUnavailable, Interrupted
from pipeline.judging.choosing import task_of
from pipeline.measuring import conditions, harness, speedups
from pipeline.measuring.cells import Measurement, Schedule, Timed
from pipeline.measuring.limits.roofline import Roofline
from pipeline.measuring.recommend import recommend
from pipeline.runners import Runner, audit, probed, runners
from pipeline.tables import recommendation as recommendations
from pipeline.tables import speed
from pipeline.tasks import Task
from pipeline.tensors import Array, Outputs
from pipeline.workflow.context import Context, Outcome

CHECKED = 32
"""Samples, at least, by which a runner's outputs are checked: on a single one chance would decide."""


def run(context: Context) -> Outcome:
    """Publish `results.json`, `recommendation.json` and `samples.npz`."""
    options, published = context.config.benchmark, context.published
    parity = published.read(ParityReport)
    audit.check_passed(parity, options.allow_failed, context.warn)
    dataset = data.reload(published.read(DatasetRecord), published.read(ModelRecord).signature, context.config.data)
    threads = options.threads or environment.cpu_count()
    listed = runners(
        published, "time", modules=context.config.model.modules, trust=context.config.model.trust, threads=threads
    )
    every = [_judged(probed(one), parity) for one in listed]
    timed = speedups.with_repeats(every, lambda one: one.record.role == "exported")
    before = (
        conditions.read()
    )  # measuring the peaks heats a GPU up to its power cap, and must not be mistaken for others
    roof = Roofline(published.path("export/model.onnx"), every, threads)
    cells, interrupted = _measure(context, timed, dataset, parity)
    _check_timed(cells, interrupted)
    after = conditions.read()
    floors = speedups.noise_floors(cells)
    roof.finish(_harness_us(cells), again=not interrupted)
    results = BenchmarkResults(
        interrupted=interrupted,
        environment=RunEnvironment(
            machine=environment.machine(),
            versions=environment.versions(backends.distributions()),
            dataset=dataset.name,
            settings=options.model_dump(mode="json"),
            threads=threads,
            conditions=Span(start=before, end=after),
        ),
        noise_floor=tuple(floors),
        limits=roof.peaks,
        cells=tuple(cell.cell(roof.share(cell)) for cell in cells),
        speedups=tuple(speedups.speedups(cells, floors, speedups.is_original)),
    )
    recommended = recommend(cells, parity, floors, environment.machine())
    if wrong := audit.problems(results, parity, recommended):
        raise RuntimeError("\n".join(wrong))  # a bug: what was not judged has been skipped above
    context.write(results)
    context.write(recommended)
    np.savez_compressed(context.output / "samples.npz", allow_pickle=False, **speedups.samples(cells))
    _show(context, results, recommended)
    if interrupted:
        return Outcome(Interrupted("interrupted; what was measured until then is kept", "Run it again for the rest."))
    return Outcome()


def _judged(runner: Runner, parity: ParityReport) -> Runner:
    """Return a runner that validation has judged, with the very options it is to be timed with.

    What validation could not run, though the library seems to be there, is not timed either.

    Raises:
        ArtifactError: it was judged with other options, or never.
    """
    if runner.unavailable:
        return runner
    judged = parity.judged(runner.record)
    if judged and judged.verdict == "skipped":
        return replace(runner, unavailable=f"not judged (`make validate` judges it where it runs): {judged.reason}")
    if wrong := list(audit.unjudged([runner.record], parity)):
        raise ArtifactError(
            f"what is to be timed is not what was judged: {wrong[0].replace(' was timed, but ', ' ')}",
            "Run `make validate` with the same options on this machine, then this again.",
        )
    return runner


def _measure(
    context: Context, timed: list[Timed], dataset: Dataset, parity: ParityReport
) -> tuple[list[Measurement], bool]:
    """Time everything at each batch size; return the cells, and whether Ctrl-C cut it short."""
    options, test = context.config.benchmark, dataset.test
    schedule = Schedule(options.cell_seconds, options.min_samples, options.rounds, options.warmup_s, options.patience_s)
    cells: list[Measurement] = []
    tasks = {one.output: task_of(one) for one in parity.outputs}
    watched = harness.steps(timed, schedule) * len(options.batch_sizes)
    # Ctrl-C between two cells' timing, where `time_batch` does not meet it, keeps what is there as well.
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder, _progress(context) as progress:
        task = progress.add_task("", total=watched)
        for batch in options.batch_sizes:
            # Real samples, over and over where the batch is larger than the test set; whole batches.
            count = -(-CHECKED // batch) * batch
            path = Path(folder) / "samples.npz"
            np.savez(path, allow_pickle=False, **test.feed(np.resize(np.arange(len(test)), count)))

            def show(what: str, batch: int = batch) -> None:
                progress.update(task, advance=1, description=f"batch {batch}: {what}")
                progress.refresh()  # by hand: a bar that moved by itself would take time from what is timed

            running = sum(not one.skip for one in timed)
            context.say(f"batch {batch}: timing {running} cells in {schedule.rounds} rounds")
            found, cut_short = harness.time_batch(timed, path, batch, schedule, partial(_wrong, tasks), show)
            cells += found
            if cut_short:
                return cells, True
        return cells, False
    return cells, True


def _check_timed(cells: list[Measurement], interrupted: bool) -> None:
    """Refuse to publish a benchmark in which no model was timed: it would take the place of a good one.

    Raises:
        BackendUnavailable: every cell failed or was skipped, with their reasons.
        Interrupted: before there was one.
    """
    models = [cell for cell in cells if not speedups.is_harness(cell.runner)]
    if any(cell.status == "ok" for cell in models):
        return
    if interrupted:
        raise Interrupted("interrupted before anything was timed; what was published before is unchanged")
    reasons = dict.fromkeys(f"{cell.name}, batch {cell.batch}: {cell.status}: {cell.reason}" for cell in models)
    raise BackendUnavailable(
        "\n".join(["nothing was timed: no runner worked at any batch size", *reasons]),
        "Mend the first of these; `make doctor` shows what this machine has. What was published before is unchanged.",
    )


def _progress(context: Context) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    shown = context.console.is_terminal
    return Progress(*columns, console=context.console, disable=not shown, auto_refresh=False, transient=True)


def _harness_us(cells: list[Measurement]) -> float | None:
    """Return what the harness itself costs: the largest median of the runner that does nothing."""
    found = [cell.timing.p50_us for cell in cells if speedups.is_harness(cell.runner) and cell.status == "ok"]
    return max((value for value in found if value is not None), default=None)


def _wrong(tasks: Mapping[str, Task], timed: Timed, found: Outputs, reference: Outputs | None) -> str:
    """Return what is wrong with a runner's outputs on these samples, measured against the original model's."""
    if speedups.is_harness(timed.runner):
        return ""
    if not all(np.isfinite(rows).all() for rows in found.values()):
        return "NaN or Inf in the outputs"
    precision = precisions.get(timed.runner.record.precision)
    if reference is None or all(precision.tolerance.holds(found[name], rows) for name, rows in reference.items()):
        return ""
    # Beyond its numeric tolerance a runner has been judged by its tasks, in the validate stage. This looks for
    # something else: a session that computes something different altogether.
    for name, rows in reference.items():
        agreement = _agreement(tasks.get(name), rows, found[name])
        if not agreement >= 0.9:
            return f"{name}: only {agreement:.0%} agreement with the original model"
    return ""


def _agreement(task: Task | None, reference: Array, candidate: Array) -> float:
    """Return the share of same answers; where there is no such thing, how much of the numbers' size is the same."""
    same = task.same(reference, candidate) if task else None
    if same is not None:
        return float(same.mean())
    wide = reference.astype(np.float64)
    off, size = np.abs(candidate - wide).sum(), np.abs(wide).sum()
    return 1.0 - float(off / size) if size else float(off == 0)


def _show(context: Context, results: BenchmarkResults, recommended: Recommendation) -> None:
    for mode in speed.MODES:
        table = speed.latency(results, mode)
        if table.rows:
            context.console.print(tables.terminal(table))
    for row in results.noise_floor:
        context.say(_noise(row))
    for cell in results.cells:
        if cell.status == "failed":
            context.warn(f"{speed.called(cell)}, batch {cell.batch}: {cell.reason}")
    context.say_skipped((speed.called(cell), cell.reason) for cell in results.cells if cell.status == "skipped")
    if recommended.choices:
        context.console.print(tables.terminal(recommendations.choices(recommended)))
    else:
        context.warn("nothing is recommended: no runner that passed validation was timed")


def _noise(row: NoiseFloor) -> str:
    low, high = row.ratio_ci95 or (row.ratio, row.ratio)
    return (
        f"noise: {row.runner} against itself at batch {row.batch}, {row.mode}: {row.ratio:.3f} ({low:.3f} to "
        f"{high:.3f}); differences below {row.floor:.1%} are not significant"
    )
