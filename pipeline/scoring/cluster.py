"""Scoring by Ray Data (extra `ray`): the same pieces, given to actors that have a session each.

An actor writes a piece's file itself and returns how many rows it has: so what is done is seen in the folder, by
whichever way it was scored, and a run that was begun here may be ended there. Ray Data's own checkpoints are not used:
they hold all ids in memory, know no row that kills its actor, and wait for ever where the actors have all processors.
"""

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import environment
from pipeline.errors import BackendUnavailable, PipelineError, first_line
from pipeline.scoring import jobs
from pipeline.scoring.jobs import Job, Opened
from pipeline.scoring.plan import Piece
from pipeline.scoring.progress import Shown
from pipeline.scoring.summary import LOCAL

TASKS_FOR_A_WORKER = 16
"""Into so many tasks the pieces are put for each worker: a task's pieces lie one after the other in the input."""

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported: nobody is told of this run

try:
    import ray
    import ray.data
except ImportError as _error:
    raise BackendUnavailable(
        f"--ray needs Ray Data: {_error}", "pip install 'keras-tensorrt-pipeline[ray]', or score without --ray."
    ) from _error


class Actor:
    """A process of the cluster: it checks the bundle on its own machine, loads the model and scores pieces.

    What goes wrong is returned: of what is raised, Ray keeps the text alone, and prints all of its own path to it.
    """

    def __init__(self, job: Job, sha256: str, trusted_keys: tuple[Path, ...]) -> None:
        self._open = ExitStack()
        self._opened: Opened | None = None
        self._load = partial(_load, job, sha256, trusted_keys, self._open)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score a piece; return how many rows it has, or the error, pickled."""
        piece = Piece(*(int(batch[name][0]) for name in Piece._fields))
        error = b""
        try:
            self._opened = self._opened or self._load()
            self._opened.score(piece, lambda _: None)
        except PipelineError as raised:
            error = pickle.dumps(raised)
        return {"rows": np.array([piece.rows]), "error": np.array([error], object)}


def _load(job: Job, sha256: str, trusted_keys: tuple[Path, ...], stack: ExitStack) -> Opened:
    found = jobs.again(job.bundle.folder, trusted_keys, sha256)
    return stack.enter_context(replace(job, bundle=replace(found, trust=job.bundle.trust)).open())


@contextmanager
def joined(address: str, workers: int | None) -> Iterator[int]:
    """Join a cluster, or start one here, for the time of a `with` block; yield how many workers it is to have.

    Raises:
        BackendUnavailable: there is none at this address.
    """
    cores = environment.cpu_count()
    if address == LOCAL:
        # Logical ones: Ray Data's own tasks wait for a free one, for ever where the actors have them all.
        options: dict[str, Any] = {"num_cpus": (workers or cores) + 2, "_node_ip_address": "127.0.0.1"}
        options["include_dashboard"] = False
    else:
        options = {"address": address}
    try:
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise BackendUnavailable(
            f"Ray at {address}: {first_line(error)}", "Name a cluster's address, or local."
        ) from error
    try:
        yield workers or (cores if address == LOCAL else max(1, int(ray.cluster_resources().get("CPU", 1))))
    finally:
        ray.shutdown()


def score(
    job: Job,
    pieces: Sequence[Piece],
    workers: int,
    trusted_keys: tuple[Path, ...],
    shown: Shown,
) -> None:
    """Score pieces on the cluster that was joined. Ray replaces an actor that dies, and does its pieces anew.

    Raises:
        PipelineError: the first that an actor raises, or what Ray says; what is written stays.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    on_gpu = job.runner.device not in (None, "cpu")
    rows = ray.data.from_items(
        [piece._asdict() for piece in pieces], override_num_blocks=min(len(pieces), TASKS_FOR_A_WORKER * workers)
    ).map_batches(
        Actor,
        fn_constructor_args=(job, jobs.digest(job.bundle), trusted_keys),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=1,
        num_gpus=1 if on_gpu else None,
    )
    shown.begin()
    try:
        for row in rows.iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])  # noqa: S301  our own actor's
            shown.advance(int(row["rows"]))
            shown.tick()
    except ray.exceptions.RayError as error:
        raise PipelineError(f"Ray: {error}", "What is written stays, and the same command goes on.") from error
