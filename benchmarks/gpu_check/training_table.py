"""The page's table on training: seconds to the article's accuracy, and how near the machine's limit each comes."""

import statistics
from collections.abc import Iterator, Mapping

import benchmarks.gpu_check.steps as listed
from benchmarks.gpu_check.records import Check, Result
from benchmarks.training import table
from benchmarks.training.table import Run

HEADS = ("trained by", "Keras on", "types", "seeds", "fit, s", "process, s", "test accuracy", "images/s")


def section(check: Check, limits: Result | None) -> Iterator[str]:
    """Yield the section, where anything was trained."""
    runs = {one: _runs(one, check) for one in listed.trainings(check.machine.gpus)}
    done = {one: mine for one, mine in runs.items() if mine}
    if not done:
        return
    script = [run.accuracy for one, mine in done.items() if not one.recipe for run in mine]
    wanted = statistics.fmean(script) if script else None
    rates = _rates(limits)
    yield "## Training"
    yield (
        "The article's network on MNIST, each training in a process of its own. The script trains on 60,000 images; "
        "ours on 55,000, and validates on 5,000 within `fit`, which excludes imports, reading the data and the test. "
        f"Time to the article's accuracy: of `fit`, where the mean accuracy is at least {_article(wanted)}. The limit "
        "is the highest rate of matrix products in the type named; TensorFlow and XLA compute FP32's in TF32 on a GPU "
        "that has it."
    )
    heads = (*HEADS, "of the limit", "s to the article's accuracy")
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(_row(one, mine, rates, wanted))} |" for one, mine in done.items()]
    yield "\n".join(lines)


def _article(wanted: float | None) -> str:
    return "the script's, which did not run here" if wanted is None else f"the script's mean here, {wanted:.4f}"


def _row(one: listed.Training, mine: list[Run], rates: Mapping[str, float], wanted: float | None) -> list[str]:
    seconds = [run.fit_s for run in mine]
    accuracy = statistics.fmean(run.accuracy for run in mine)
    images = statistics.median(run.samples / run.fit_s for run in mine)
    limit = rates.get(one.limit)
    share = f"{100 * images * table.MACS / limit:.2g} % of {one.limit}" if limit else f"n/a ({one.limit})"
    reached = "n/a" if wanted is None else f"{statistics.median(seconds):.2f}" if accuracy >= wanted else "not reached"
    return [
        one.what,
        one.keras,
        one.policy,
        str(len(mine)),
        f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
        f"{statistics.median(run.process_s for run in mine):.1f}",
        f"{accuracy:.4f}",
        f"{images:,.0f}",
        share,
        reached,
    ]


def _runs(training: listed.Training, check: Check) -> list[Run]:
    """Return what each seed of a training measured, from what its process wrote."""
    results = {one.step: one for one in check.results if one.status == "passed" and one.found}
    seeds = ((seed, results.get(f"{training.name}-{seed}")) for seed in range(listed.SEEDS))
    return [_run(training, seed, result) for seed, result in seeds if result]


def _run(training: listed.Training, seed: int, result: Result) -> Run:
    if not training.recipe:
        found = result.found  # what benchmarks.training.article prints
        return Run(seed, found["fit_s"], result.seconds, found["accuracy"], found["samples"])
    from pipeline.artifacts.history import TrainingHistory
    from pipeline.data.mnist import VALIDATION

    history = TrainingHistory.model_validate(result.found)
    accuracy = history.test[0].value
    assert accuracy is not None
    return Run(seed, history.seconds, result.seconds, accuracy, len(history.epochs) * (60_000 - VALIDATION))


def _rates(limits: Result | None) -> dict[str, float]:
    if limits is None or not limits.found:
        return {}
    from pipeline.artifacts.results import Peaks

    return Peaks.model_validate(limits.found).macs_per_s
