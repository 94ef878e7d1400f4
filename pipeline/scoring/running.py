"""A run of `score`, from the plan to the summary."""

import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline import interruption
from pipeline.errors import ArtifactError, DataError, Interrupted
from pipeline.scoring import local, plan, preparing, sources, summary
from pipeline.scoring.jobs import Job
from pipeline.scoring.parts import TRIES, Parts
from pipeline.scoring.plan import Piece
from pipeline.scoring.preparing import Wanted
from pipeline.scoring.progress import Shown
from pipeline.scoring.sources.arrays import UNPACKED
from pipeline.scoring.sources.single import LISTING
from pipeline.scoring.summary import Summary, Took

LOCK = "_lock"


def run(wanted: Wanted) -> None:
    """Score what is not scored yet, count the output and write the summary. Raises as `scoring.score` says."""
    with interruption.interrupting(), _locked(wanted.target):
        try:
            _run(wanted)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; what was scored stays in {wanted.target}", "The same command goes on from there."
            ) from None


def _run(wanted: Wanted) -> None:
    began, target = time.monotonic(), wanted.target
    source = sources.find(wanted.source, target, wanted.bundle.record, wanted.config.score.id_column)
    runner, remarks = preparing.chosen(wanted)
    planned = preparing.plan(wanted, source, runner)
    plan.begin(target, planned)
    parts = Parts(target, hashlib.sha256(planned.to_json().encode()).hexdigest())
    parts.clear()
    pieces = plan.pieces(planned)
    left = [piece for piece in pieces if not parts.done(piece)]
    rows = sum(piece.rows for piece in left)
    workers = min(preparing.workers(wanted, runner), max(len(left), 1))
    alone = workers == 1 and wanted.ray is None
    batch = wanted.config.score.batch_size or preparing.best_batch(runner)
    job = Job(wanted.bundle, runner, batch, alone, source, parts)
    remarks = (*remarks, *filter(None, [source.remark]))
    with Shown(planned.rows, planned.rows - rows) as shown:
        shown.say(f"{wanted.source}: {planned.rows:,} rows, {planned.rows - rows:,} of them scored before")
        for remark in remarks:
            shown.say(f"  {remark}")
        if left:
            workers = _score(wanted, job, left, workers, shown)
        seconds = shown.seconds
    parts.clear()
    counted = summary.counted(job, planned, pieces)
    took = Took(time.monotonic() - began, seconds, rows, workers, wanted.ray)
    found = summary.of(job, counted, len(pieces), took, remarks)
    found.write(target / summary.FILE)
    for name in (TRIES, UNPACKED):
        shutil.rmtree(target / name, ignore_errors=True)
    (target / LISTING).unlink(missing_ok=True)
    _end(shown, found, target, summary.first_error([parts.path(piece) for piece in pieces]))


def _score(wanted: Wanted, job: Job, left: Sequence[Piece], workers: int, shown: Shown) -> int:
    """Score pieces here or on a cluster; return by how many workers."""
    try:
        if wanted.ray is None:
            local.score(job, left, workers, shown)
            return workers
        from pipeline.scoring import cluster

        handlers = interruption.handlers()
        with cluster.joined(wanted.ray, wanted.config.score.workers) as joined:
            interruption.restore(handlers)  # Ray has taken SIGTERM
            cluster.score(job, left, joined, wanted.config.deploy.trusted_keys, shown)
            return joined
    except BaseException:
        job.parts.forget_tries()  # the processes were ended, and have not died
        job.parts.clear()
        raise


def _end(shown: Shown, found: Summary, target: Path, first_error: str) -> None:
    rate = f", {found.rows_per_s:,.0f} rows/s" if found.rows_per_s else ""
    shown.say(
        f"{target}: {found.rows:,} rows, each once, in {found.files:,} files; {found.errors:,} with an error{rate}"
    )
    shown.say(f"  by         {found.runner}: {found.why}")
    one, many = ("actor of Ray", "actors of Ray") if found.by == "Ray" else ("process", "processes")
    by = f"{found.workers} {one if found.workers == 1 else many}"
    shown.say(f"  in         {by}, batches of {found.batch}, threads of each: {found.threads}")
    if isinstance(found.share, str):
        shown.say(f"  limit      not known: {found.share}")
    else:
        of = f"{found.share.of_items_per_s:,.0f} rows/s"
        shown.say(f"  limit      {found.share.share:.0%} of {of}, {found.share.words}")
    if first_error:
        shown.say(f"  an error   {first_error}")
    if found.errors == found.rows:
        raise DataError(f"not one of {found.rows:,} rows could be scored: {first_error}", f"See error in {target}.")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second run out of OUTPUT.

    Raises:
        ArtifactError: another run is using it, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ArtifactError(f"another run is writing to {folder}", "Wait for it, or name another folder.") from error
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error}", "Name another folder.") from error
    try:
        yield
    finally:
        lock.release()
