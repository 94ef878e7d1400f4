"""Scoring on this machine: processes that load the model once and take one piece after the other."""

import multiprocessing
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline import exhaustion, interruption, temporary
from pipeline.errors import PipelineError
from pipeline.scoring.jobs import Job
from pipeline.scoring.plan import Piece
from pipeline.scoring.progress import Shown
from pipeline.scoring.turns import Turns

TICK_S = 0.5
"""How often progress is looked at while nothing happens."""


class WorkerError(PipelineError):
    """A process that raised what it should not have, or the last one, which died while it loaded the model."""


def score(job: Job, pieces: Sequence[Piece], workers: int, shown: Shown) -> None:
    """Score pieces in processes of this machine. One that dies is replaced, and its piece is done anew.

    One that dies while it loads the model is not: the memory that it lacked, its replacement would lack as well. The
    others go on without it.

    Raises:
        PipelineError: the first that a process raises; what is written stays.
    """
    turns = Turns(pieces, job.source)
    with _Workers(job) as running:
        for _ in range(min(workers, len(pieces))):
            running.start()
        while running.busy or turns:
            for worker in running.heard(TICK_S):
                _hear(worker, turns, running, shown)
            shown.tick()


class _Worker:
    """A process: the piece that it has, and how many of its rows are scored."""

    def __init__(self, number: int, process: Any, pipe: Connection, folder: "tempfile.TemporaryDirectory[str]") -> None:
        self.number, self.process, self.pipe, self.folder = number, process, pipe, folder
        self.piece: Piece | None = None
        self.rows = 0
        self.loaded = False


def _hear(worker: _Worker, turns: Turns, running: "_Workers", shown: Shown) -> None:
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        running.bury(worker)
        shown.advance(-worker.rows)
        if not worker.loaded:
            said = f"a process died while it loaded the model (exit code {worker.process.exitcode})"
            hint = "Signal 9 usually means that memory ran out: set score.workers to fewer."
            if turns and not running.busy:
                raise WorkerError(said, hint) from None
            shown.say(f"{said}; the others go on without it. {hint}")
        elif worker.piece is not None:
            turns.back(worker.piece)
            running.start()
        return
    if isinstance(message, PipelineError):
        raise message
    if isinstance(message, int) and message > 0:
        worker.rows += message
        shown.advance(message)
        return
    shown.begin()
    worker.loaded, worker.rows = True, 0
    worker.piece = turns.next(worker.number)
    with suppress(OSError):  # it has just died: that is heard next
        worker.pipe.send(worker.piece)
    if worker.piece is None:
        running.bury(worker)


class _Workers:
    """The processes that run; all of them are ended with the block."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._started = 0
        self.running: dict[Any, _Worker] = {}

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.running.values():
            worker.process.kill()
        for worker in self.running.values():
            worker.process.join()
            worker.folder.cleanup()

    @property
    def busy(self) -> bool:
        """Whether there is any."""
        return bool(self.running)

    def heard(self, seconds: float) -> list[_Worker]:
        """Return those that have something to say, or have died, within a time."""
        return [self.running[pipe] for pipe in wait(list(self.running), seconds)]

    def start(self) -> None:
        """Start a process. None is forked: libraries that have threads may hang in one."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        folder = tempfile.TemporaryDirectory(prefix="worker-", ignore_cleanup_errors=True)
        process = context.Process(target=serve, args=(theirs, self._job, folder.name), daemon=True)
        with interruption.blocked():
            process.start()
            self.running[ours] = _Worker(self._started, process, ours, folder)
        self._started += 1
        theirs.close()

    def bury(self, worker: _Worker) -> None:
        """Forget a process that has ended, or is about to."""
        del self.running[worker.pipe]
        worker.process.join()
        worker.pipe.close()
        worker.folder.cleanup()


def serve(pipe: Connection, job: Job, folder: str) -> None:
    """Load the model, then score the pieces that come through the pipe until it ends. What is raised is answered.

    `folder` is for temporary files.
    """
    interruption.leave_to_parent()
    temporary.keep_in(folder)
    try:
        with job.open() as opened:
            pipe.send(0)
            while (piece := pipe.recv()) is not None:
                opened.score(piece, pipe.send)
                pipe.send(0)
    except (EOFError, BrokenPipeError):
        sys.exit()  # nobody asks any more
    except PipelineError as error:
        pipe.send(error)
    except Exception as error:  # of a library, or a bug
        limit = exhaustion.told(error)
        if not limit:
            traceback.print_exc()
        pipe.send(limit or WorkerError(f"{type(error).__name__}: {error}"))
