"""What came of a run: counted in what was written, not in what was meant to be."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import pyarrow.parquet as pq
from pydantic import Field

from pipeline import environment
from pipeline.artifacts.record import Artifact, Record
from pipeline.environment import Machine
from pipeline.errors import ArtifactError
from pipeline.scoring import ids
from pipeline.scoring.answers import ERROR
from pipeline.scoring.jobs import Job, digest, opened_by
from pipeline.scoring.plan import Piece, Plan

FILE = "_summary.json"
LOCAL = "local"
"""The address of a Ray cluster that is started here, for the one run."""


class Share(Record):
    """The rate as a share of what the benchmark measured of the same runner."""

    share: float
    of_items_per_s: float
    words: str
    """What it is a share of."""


class Summary(Artifact):
    """What was scored by what, and how fast."""

    PATH: ClassVar[str] = FILE
    REMEDY: ClassVar[str] = "Start the same `score` again."

    schema_: Literal[1] = Field(1, alias="schema")
    rows: int
    """In the output, each once: as many as in the input."""
    errors: int
    """Rows with a reason in place of answers."""
    files: int
    """Parquet files of the output."""
    rows_of_this_run: int
    """The others were there already."""
    seconds: float
    """This run, from the check of the bundle to the check of the output."""
    scoring_seconds: float
    """Of these, from the first loaded model to the last file written."""
    rows_per_s: float | None
    """Rows of this run in each second of scoring; null where there was nothing left to score."""
    share: Share | str
    """Of the machine's limit; or why there is none."""
    bundle: str
    """SHA-256 of its bundle.json."""
    model: str
    version: int
    runner: str
    """How the model was run."""
    why: str
    """Why this runner."""
    batch: int
    """Samples per inference."""
    by: Literal["processes", "Ray"]
    workers: int
    threads: str
    """Of each worker's session."""
    machine: Machine
    """That the command was started on."""
    remarks: tuple[str, ...]
    """What else is to be known."""


def counted(job: Job, plan: Plan, pieces: Sequence[Piece]) -> tuple[int, int]:
    """Count the rows of the output and those with an error.

    Raises:
        ArtifactError: a file is missing or is not whole, or an id is there twice.
    """
    rows = errors = 0
    paths = [job.parts.path(piece) for piece in pieces]
    for piece, path in zip(pieces, paths, strict=True):
        if not job.parts.done(piece):
            raise ArtifactError(
                f"{path} is missing or not whole",
                "Start the same `score` again; with --ray, all machines must share OUTPUT.",
            )
        column = pq.read_table(path, columns=[ERROR]).column(0)
        rows, errors = rows + len(column), errors + len(column) - column.null_count
    if rows != plan.rows:
        raise ArtifactError(f"{job.parts.folder} has {rows:,} rows, and the input {plan.rows:,}", _ANEW)
    if strange := {path.name for path in job.parts.folder.glob("part-*.parquet")} - {path.name for path in paths}:
        raise ArtifactError(f"{job.parts.folder}/{min(strange)} is none of this run's files", _ANEW)
    if why := ids.unfit(paths, plan.id):
        raise ArtifactError(f"{job.parts.folder}: the column {plan.id} {why}", _ANEW)
    return rows, errors


_ANEW = "Score into a new folder."


class Took(NamedTuple):
    """How long a run took, how many rows it scored, and by what."""

    seconds: float
    scoring_seconds: float
    rows: int
    workers: int
    ray: str | None
    """The address of the cluster."""


def of(job: Job, counted: tuple[int, int], files: int, took: Took, remarks: Sequence[str]) -> Summary:
    """Return the summary of a run whose output was counted."""
    record = job.bundle.record
    rate = took.rows / took.scoring_seconds if took.scoring_seconds else None
    options = opened_by(job.bundle, job.runner, job.alone).record.options
    return Summary(
        rows=counted[0],
        errors=counted[1],
        files=files,
        rows_of_this_run=took.rows,
        seconds=took.seconds,
        scoring_seconds=took.scoring_seconds,
        rows_per_s=rate,
        share=_share(job, rate, took),
        bundle=digest(job.bundle),
        model=record.name,
        version=record.version,
        runner=job.runner.runner.name,
        why=job.runner.reason,
        batch=job.batch,
        by="processes" if took.ray is None else "Ray",
        workers=took.workers,
        threads="as judged" if options == job.runner.runner.options else str(options.threads),
        machine=environment.machine(),
        remarks=tuple(remarks),
    )


def first_error(paths: Sequence[Path]) -> str:
    """Return the first reason that stands in place of an answer; empty where there is none."""
    for path in paths:
        reasons = pq.read_table(path, columns=[ERROR]).column(0).drop_null()
        if len(reasons):
            return str(reasons[0])
    return ""


def _share(job: Job, rate: float | None, took: Took) -> Share | str:
    """Return the rate as a share of the runner's best measured one, for as many of the cores as there are workers."""
    measured, there, here = job.runner.measured, job.bundle.record.machine, environment.machine()
    if rate is None:
        return "nothing was left to score"
    if not measured:
        return "the benchmark did not time this runner"
    if took.ray not in (None, LOCAL):
        return "the benchmark was run on one machine, and a cluster may have many"
    if (here.cpu, here.cores, here.gpus) != (there.cpu, there.cores, there.gpus):
        return f"the benchmark was run on another machine ({there})"
    best = max(measured, key=lambda one: one.items_per_s)
    on_cpu = job.runner.device in (None, "cpu")
    cores = min(took.workers, here.cores) if on_cpu and not job.alone else here.cores
    words = f"what the benchmark measured of this runner at batch {best.batch} from array to array"
    words += f", for {cores} of {here.cores} cores" if on_cpu else ""
    limit = best.items_per_s * cores / here.cores
    return Share(share=rate / limit, of_items_per_s=limit, words=f"{words}; reading and writing are not in it")
