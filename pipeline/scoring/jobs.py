"""What a process needs to score pieces: it is sent to each of them, on this machine or another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import digests
from pipeline.artifacts.bundle import BundledRunner
from pipeline.artifacts.runner import RunnerOptions
from pipeline.deployment import bundle
from pipeline.deployment.bundle import Bundle
from pipeline.errors import ArtifactError
from pipeline.runners import Runner, inference
from pipeline.scoring import answers
from pipeline.scoring.parts import Parts
from pipeline.scoring.plan import Piece
from pipeline.scoring.scorer import Scored, Scorer
from pipeline.scoring.sources import Source

GIVEN_UP = "the process that scored this row alone died, again and again"

Advance = Callable[[int], None]
"""Is told how many rows more are scored."""


@dataclass(frozen=True)
class Job:
    """The rows, the runner and the folder for the answers. `alone`: no other process scores on this machine."""

    bundle: Bundle
    runner: BundledRunner
    batch: int
    alone: bool
    source: Source
    parts: Parts

    @contextmanager
    def open(self) -> Iterator["Opened"]:
        """Load the model for the time of a `with` block.

        Raises:
            BackendUnavailable: this machine does not offer the runner.
            ArtifactError: a file of the bundle has changed.
        """
        runner = opened_by(self.bundle, self.runner, self.alone)
        with runner.open() as session:
            limits = inference.limits(runner.record, session)
            yield Opened(self, Scorer(session, self.batch, limits))

    @property
    def schema(self) -> Any:
        """The columns of the output."""
        return pa.schema([*self.source.kept, *answers.schema(self.bundle.record.outputs)])


@dataclass(frozen=True)
class Opened:
    """A job in the process that does a part of it."""

    job: Job
    scorer: Scorer

    def score(self, piece: Piece, advance: Advance) -> None:
        """Score a piece and write its file; where that is there already, nothing.

        Raises:
            PipelineError: the input cannot be read, or the model no longer runs.
        """
        job = self.job
        if job.parts.done(piece):
            advance(piece.rows)
            return
        with job.parts.trying(piece) as trying, job.parts.writing(piece, job.schema) as writer:
            row = piece.start
            for table in job.source.tables(piece, 1 if trying.careful else self.scorer.batch):
                if row in (trying.given_up or ()):
                    scored = Scored(1, np.zeros(0, np.int64), {}, {0: GIVEN_UP})
                else:
                    if trying.careful:
                        trying.row(row)
                    scored = self.scorer.score(job.source.samples(table))
                kept = table.select(job.source.kept.names).columns
                found = answers.columns(job.bundle.record.outputs, scored)
                writer.write(pa.table([*kept, *found], schema=job.schema))
                row += len(table)
                advance(len(table))


def opened_by(found: Bundle, one: BundledRunner, alone: bool) -> Runner:
    """Return how a process opens a runner: as it was judged, but with one thread where other processes run beside it.

    Pieces that the engine stage found to be fastest stay; their threads do not.
    """
    runner = found.runner(one)
    if alone or runner.device != "cpu":
        return runner
    options = runner.record.options
    steps = tuple(step.model_copy(update={"threads": None}) for step in options.steps)
    of_one = RunnerOptions.model_validate(options.model_dump() | {"threads": 1, "steps": steps})
    return replace(runner, record=runner.record.model_copy(update={"options": of_one}))


def again(folder: Path, trusted_keys: tuple[Path, ...], sha256: str) -> Bundle:
    """Check the bundle on another machine, and that it is the same.

    Raises:
        ArtifactError: it is not.
    """
    found = bundle.opened(folder, trusted_keys)
    if digest(found) != sha256:
        raise ArtifactError(f"{folder} is another bundle on this machine", "Put it on a file system that all share.")
    return found


def digest(found: Bundle) -> str:
    """Return what a bundle is recognised by: its record names every other file's digest."""
    return digests.of_file(found.folder / bundle.RECORD)
