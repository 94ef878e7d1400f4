"""Before the first row: which runner answers, in which batches, by how many workers, and the plan."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline import environment
from pipeline.artifacts.bundle import BundledRunner
from pipeline.config import Config
from pipeline.deployment.bundle import Bundle
from pipeline.errors import BackendUnavailable, DataError
from pipeline.scoring import answers, jobs
from pipeline.scoring.plan import FILE, Plan
from pipeline.scoring.sources import Source

BATCH = 64
"""Samples per inference, where nothing was timed."""


class Wanted(NamedTuple):
    """What `score` was asked for; paths are absolute."""

    bundle: Bundle
    source: Path
    target: Path
    config: Config
    ray: str | None


class Chosen(NamedTuple):
    """The runner that answers, and what is to be said of the choice."""

    runner: BundledRunner
    remarks: tuple[str, ...]


def chosen(wanted: Wanted) -> Chosen:
    """Return the first runner that passed validation and runs here; of a run that goes on, the one that it began with.

    Raises:
        BackendUnavailable: none runs here.
    """
    offered = wanted.bundle.record.verified
    path = wanted.target / FILE
    before = Plan.read(path) if path.exists() else None
    if before is not None and before.bundle == jobs.digest(wanted.bundle):
        offered = tuple(one for one in offered if one.name == before.runner)
    return first_that_runs(wanted.bundle, offered)


def first_that_runs(found: Bundle, offered: Sequence[BundledRunner]) -> Chosen:
    """Return the first of these runners that this machine offers.

    Raises:
        BackendUnavailable: it offers none; the reasons are those of all.
    """
    remarks: list[str] = []
    for one in offered:
        try:
            with jobs.opened_by(found, one, alone=True).open():
                return Chosen(one, tuple(remarks))
        except BackendUnavailable as error:
            remarks.append(f"{one.runner.name} does not run here: {error.message}")
    raise BackendUnavailable(
        "\n".join(remarks) or "the bundle has no runner that passed validation", "Score on a machine that offers one."
    )


def plan(wanted: Wanted, source: Source, runner: BundledRunner) -> Plan:
    """Return the plan of a run.

    Raises:
        DataError: there is no row, or the input has a column that answers are written to.
    """
    made = set(answers.schema(wanted.bundle.record.outputs).names)
    if taken := [name for name in source.kept.names if name in made]:
        raise DataError(f"the input has a column {taken[0]}, which answers are written to", "Rename it.")
    found = Plan(
        source=str(wanted.source),
        files=source.files(),
        bundle=jobs.digest(wanted.bundle),
        runner=runner.name,
        rows_per_file=wanted.config.score.rows_per_file,
        id=source.kept.names[0],
        id_origin=source.id_origin,
    )
    if not found.rows:
        raise DataError(f"{wanted.source} has no rows")
    return found


def best_batch(runner: BundledRunner) -> int:
    """Return the batch size of the highest measured throughput."""
    best = max(runner.measured, key=lambda one: one.items_per_s, default=None)
    return best.batch if best else BATCH


def workers(wanted: Wanted, runner: BundledRunner) -> int:
    """Return how many processes score on this machine: one for each core, or one for its GPU."""
    on_cpu = wanted.bundle.runner(runner).device == "cpu"
    return wanted.config.score.workers or (environment.cpu_count() if on_cpu else 1)
