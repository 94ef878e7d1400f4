"""The report as text, for terminals and pull requests: `report.md`.

What artifacts say goes into it by `filled` or in tables: so nothing of it is markup.
"""

from collections.abc import Iterator

from pipeline.artifacts.history import TrainingHistory
from pipeline.artifacts.results import BenchmarkResults
from pipeline.measuring import conditions
from pipeline.report import findings
from pipeline.report.run import Run
from pipeline.tables import Table, accuracy, engines, recommendation, speed
from pipeline.tables import markdown as drawn
from pipeline.tables.judged import budgets, intervals, tested
from pipeline.tables.numbers import written
from pipeline.texts import filled, markdown


def render(run: Run) -> str:
    """Return the report of a run as Markdown."""
    sections = [
        *_head(run),
        *_recommendation(run),
        *_accuracy(run),
        *_speed(run),
        "## Engines",
        drawn(engines.engines(run.engines)),
        *_choice(run),
        "## What did not run, and why",
        _table(findings.table(run)) or "Everything ran.",
        "## Versions",
        markdown(", ".join(f"{name} {version}" for name, version in run.last.versions.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _table(table: Table) -> str:
    """Return a table, or nothing where it has no rows."""
    return drawn(table) if table.rows else ""


def _head(run: Run) -> Iterator[str]:
    dataset, history, samples = run.dataset.plain, run.history.plain, run.dataset.plain.samples
    yield "# From Keras to TensorRT: what was measured"
    if dataset.random:
        yield "> **No data.** Inputs are random numbers: nothing here says how good the model is on real ones."
    if dataset.substitute:
        yield filled("> **Not MNIST.** {}. Every figure here is of {}.", dataset.substitute, dataset.origin)
    lines = [
        filled(
            "- Data: {} ({}): {:,} training, {:,} validation and {:,} test samples.",
            *(dataset.name, dataset.origin, samples.train, samples.validation, samples.test),
        ),
        filled("- {}; {}.", _training(history), _tested(history)),
        filled("- Export: {}", run.export.plain.sentence),
    ]
    lines += [
        filled("- {}: {:%Y-%m-%d %H:%M} UTC, {:.1f} s, on {}.", stage, one.created, one.seconds, one.machine)
        for stage, one in run.manifests.items()
    ]
    yield "\n".join(lines)


def _training(history: TrainingHistory) -> str:
    if not history.epochs:
        return "Training: none, the model was adopted as it is"
    rate = "" if history.samples_per_s is None else f" ({history.samples_per_s:,.0f} samples/s)"
    steps = f"{len(history.epochs)} epochs of {history.steps_per_epoch} steps in {history.seconds:.1f} s"
    return f"Training: {steps}{rate} on {', '.join(history.devices)}"


def _tested(history: TrainingHistory) -> str:
    if not history.test:
        return "how good it is was not measured, for want of labels or of a task that fits"
    return f"test {tested(history)} on {history.test_samples:,} samples"


def _recommendation(run: Run) -> Iterator[str]:
    if run.recommendation is None:
        return
    yield "## What to run"
    yield "The fastest of the runners that passed validation, as measured on this machine."
    yield _table(recommendation.choices(run.recommendation)) or "No runner that passed was timed."
    if run.recommendation.plain.excluded:
        yield "Runners that cannot be recommended:"
        yield drawn(recommendation.excluded(run.recommendation))


def _choice(run: Run) -> Iterator[str]:
    if run.selection is None:
        return
    selection = run.selection.plain
    dataset = selection.dataset
    yield filled("## Chosen precision: {}", selection.chosen or "none")
    yield filled(
        "On the {:,} {} samples of {}, budget {}. Cost: {}.",
        *(dataset.samples, dataset.split, dataset.name, budgets(selection.outputs), selection.basis),
    )
    yield drawn(engines.candidates(run.selection))


def _accuracy(run: Run) -> Iterator[str]:
    parity = run.parity.plain
    dataset = parity.dataset
    yield filled("## Accuracy: {}", parity.verdict)
    yield filled(
        "On the {:,} {} samples of {}. Budget: {}. Interval: {}.",
        *(dataset.samples, dataset.split, dataset.name, budgets(parity.outputs), intervals(parity.outputs)),
    )
    if any(not (one.task == "classification" and one.labels) for one in parity.outputs):
        yield "\n".join(
            filled(
                "- {}: {} ({}), judged by {}; budget {:.4g} {}: {}.",
                *(one.output or "all outputs", one.task, one.why, one.measured, one.budget, one.unit, one.budget_why),
            )
            for one in parity.outputs
        )
    yield "### Every runner against the original model"
    yield drawn(accuracy.runners(run.parity))
    yield "### Hop by hop, from the Keras model to what is served"
    yield drawn(accuracy.hops(run.parity))


def _speed(run: Run) -> Iterator[str]:
    yield "## Speed"
    if run.results is None:
        yield "Nothing was timed: the model failed validation."
        return
    results = run.results.plain
    rounds = max((len(cell.timing.round_p50_us) for cell in results.cells if cell.timing), default=0)
    yield filled(
        "{}. {} threads, one process per row, {} rounds in which every row is timed in turn. p50 is the median of the "
        "rounds' medians; intervals are 95 %, by bootstrap over rounds. A percentile that the number of calls cannot "
        "support is `n/a`. The limit is the least time this machine could take, by the best it was measured to do; the "
        "share is how near the row comes.",
        *(results.environment.machine, results.environment.threads, rounds),
    )
    if results.interrupted:
        yield "**Interrupted**: what was measured until then is below."
    for mode in speed.MODES:
        if (table := speed.latency(run.results, mode)).rows:
            yield filled("### {}", table.title)
            yield drawn(table)
    yield "### Noise"
    yield _table(speed.noise(run.results)) or "No runner was timed a second time."
    yield from _beneath(results)
    yield "### Speed-up over the original model"
    yield "Median of the rounds' ratios with its interval, the strongest original first."
    yield _table(speed.speedups(run.results)) or "Nothing was timed together with the original model."


def _beneath(results: BenchmarkResults) -> Iterator[str]:
    """Say what else affects the numbers: the harness's own cost, and a machine that changed meanwhile."""
    costs = [cell.timing.p50_us for cell in results.cells if cell.timing and cell.runner.role == "harness"]
    if known := [cost for cost in costs if cost is not None]:
        yield f"The harness itself, around a call that does nothing: {written(max(known), 'us')} µs."
    whole = results.environment.conditions
    remarks = conditions.changes(whole.start, whole.end) if whole.start and whole.end else []
    for cell in results.cells:
        if cell.timing and cell.conditions.start and cell.conditions.end:
            remarks += conditions.gpu_changes(cell.conditions.start, cell.conditions.end)
    for remark in dict.fromkeys(remarks):
        yield filled("**{}{}.**", remark[0].upper(), remark[1:])
