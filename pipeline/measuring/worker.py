"""One process a cell: it loads the model, then waits on a pipe for what to measure.

So no cell shares its threads, memory pools or interpreter with another, and each is placed in memory by chance, which
the A/A repeat of a cell shows.
"""

import gc
import multiprocessing
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from pipeline import environment, exhaustion, interruption, temporary
from pipeline.artifacts.results import Mode, WarmUp
from pipeline.backends import Bound, Session
from pipeline.errors import BackendUnavailable, BatchOutsideProfile, PipelineError
from pipeline.measuring import clock
from pipeline.measuring.cells import Timed
from pipeline.measuring.clock import Clock
from pipeline.measuring.statistics import Samples
from pipeline.runners import processes
from pipeline.tensors import Array, Device, Feed, Outputs


class WorkerError(PipelineError):
    """A worker process that ended, or raised what it should not have."""


PATIENCE_S = 600.0
"""For how long a process may be silent, beyond the time that it was given to measure (`benchmark.patience_s`)."""

ASKED = {
    "outputs": "inferring the samples",
    "warm_up": "warming up",
    "measure": "being timed",
    "settings": "telling its settings",
}
"""What a process does, by what it is asked for."""

TRIES = 2
"""How often a process is started, where the server that it is forked from dies of something else meanwhile."""


class Worker:
    """A runner's process, to be used as a context manager.

    `status` is ok, skipped (not available on this machine, or not built for this batch) or failed, with `reason`;
    `modes` maps each mode to why it cannot be timed, or to nothing.
    """

    status: Literal["ok", "skipped", "failed"] = "ok"
    reason = ""
    device: str | None = None

    def __init__(self, timed: Timed, samples: Path, batch: int, patience_s: float = PATIENCE_S) -> None:
        self.timed = timed
        self.modes: dict[Mode, str] = {}
        self._patience_s = patience_s
        self._call_s: dict[Mode, float] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="worker-", ignore_cleanup_errors=True)
        self._work = (timed, samples, batch, self._folder.name)
        self._prepare()

    def _prepare(self) -> None:
        self._pipe, self._theirs = multiprocessing.Pipe()
        work = (self._theirs, *self._work)
        self._process = processes.context().Process(target=serve, args=work, daemon=True)

    def __enter__(self) -> "Worker":
        """Start the process, and wait until the model is loaded."""
        environment.prepare_tensorflow()
        try:
            self._start()
            self.device, self.modes = self._reply("loading the model")
        except (BackendUnavailable, BatchOutsideProfile) as error:
            self.status, self.reason = "skipped", error.message
        except PipelineError as error:
            self.status, self.reason = "failed", error.message
        except BaseException:  # Ctrl-C, while it loads
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _start(self) -> None:
        for left in reversed(range(TRIES)):
            try:
                processes.start(self._process)
            except (OSError, EOFError) as error:
                if not left:
                    raise WorkerError(
                        f"no process could be started for {self.timed}: the server that they are forked from ended",
                        "Run it again; if memory ran out, with smaller batches.",
                    ) from error
                self._pipe.close()  # one that was forked nevertheless ends by this
                self._theirs.close()
                self._prepare()
            else:
                self._theirs.close()
                return

    def __exit__(self, *exception: object) -> None:
        """End the process, in order where it listens."""
        if exception == (None, None, None) and self._process.is_alive():
            try:
                self._pipe.send(None)
                self._process.join(timeout=processes.END_S)
            except OSError:
                pass
        processes.end(self._process)
        self._pipe.close()
        self._theirs.close()
        self._folder.cleanup()

    def outputs(self) -> Outputs:
        """Return the outputs of all samples, by name."""
        return cast("Outputs", self._ask("outputs"))

    def warm_up(self, mode: Mode, limit_s: float) -> WarmUp:
        """Bring the cell to its level; see clock.warm_up."""
        found = cast("WarmUp", self._ask("warm_up", mode, limit_s, takes_s=limit_s))
        self._call_s[mode] = found.seconds / found.calls
        return found

    def measure(self, mode: Mode, seconds: float, samples: int) -> Samples:
        """Return one round's durations in ns."""
        takes_s = 2 * (seconds + samples * self._call_s.get(mode, 0.0))
        return cast("Samples", self._ask("measure", mode, seconds, samples, takes_s=takes_s))

    def settings(self, mode: Mode) -> tuple[dict[str, Any], Clock]:
        """Return how the session runs, and by which clock the mode is timed."""
        return cast("tuple[dict[str, Any], Clock]", self._ask("settings", mode))

    def _ask(self, *request: object, takes_s: float = 0.0) -> Any:
        try:
            self._pipe.send(request)
        except OSError as error:
            raise self._ended() from error
        return self._reply(ASKED[str(request[0])], takes_s)

    def _reply(self, doing: str, takes_s: float = 0.0) -> Any:
        limit_s = takes_s + self._patience_s
        with processes.watched(limit_s, lambda: processes.kill(self._process)) as late:
            try:
                reply = self._pipe.recv()
            except (EOFError, OSError) as error:
                if late.is_set():
                    raise WorkerError(
                        f"the process of {self.timed} was silent for {limit_s:.0f} s while {doing}, and was ended",
                        "It hangs or is stopped; or give it longer: benchmark.patience_s.",
                    ) from error
                raise self._ended() from error
        if isinstance(reply, PipelineError):
            raise reply
        return reply

    def _ended(self) -> WorkerError:
        self._process.join(timeout=processes.END_S)
        code = self._process.exitcode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        if code in (None, processes.UNKNOWN):
            how = "ended, as did the server that it was forked from"
        return WorkerError(
            f"the process of {self.timed} {how}", "Signal 9 usually means that memory ran out: try smaller batches."
        )


def serve(pipe: Connection, timed: Timed, samples: Path, batch: int, folder: str) -> None:
    """Load the runner's model and answer requests until one ends it. What is raised is answered, too.

    `folder` is for temporary files.
    """
    interruption.leave_to_parent()
    temporary.keep_in(folder)
    try:
        with timed.runner.open() as session:
            with np.load(samples, allow_pickle=False) as file:
                cell = _Cell(session, dict(file), batch)
            pipe.send((session.device, cell.modes))
            gc.collect()
            gc.freeze()  # what is loaded stays; with TensorFlow loaded, each later collection would take 0.2 s
            while (request := pipe.recv()) is not None:
                name, *arguments = request
                pipe.send(getattr(cell, name)(*arguments))
    except (EOFError, BrokenPipeError):
        return  # nobody asks any more
    except PipelineError as error:
        pipe.send(error)
    except Exception as error:  # of a library, which may be anything, or a bug: this cell fails, the others go on
        limit = exhaustion.told(error)
        if not limit:
            traceback.print_exc()
        pipe.send(limit or WorkerError(f"{type(error).__name__}: {error}"))


class _Cell:
    """A session with the samples of one batch size: what requests are answered from."""

    def __init__(self, session: Session, samples: Feed, batch: int) -> None:
        self._session, self._samples, self._batch = session, samples, batch
        feed = self._feed(0)
        session.run(feed)  # a batch that the session does not take is refused here
        run = session.run
        self._calls: dict[Mode, Callable[[], object]] = {"end_to_end": lambda: run(feed)}
        self.modes: dict[Mode, str] = {"end_to_end": ""}
        if Device.parse(session.device).kind == "cuda":
            try:
                self._calls["compute"] = session.bind(feed)
                self.modes["compute"] = ""
            except BackendUnavailable as error:
                self.modes["compute"] = error.message

    def _feed(self, start: int) -> Feed:
        batch = slice(start, start + self._batch)
        return {name: np.ascontiguousarray(rows[batch]) for name, rows in self._samples.items()}

    def outputs(self) -> Outputs:
        """Infer all samples in batches."""
        count = len(next(iter(self._samples.values())))
        found: dict[str, list[Array]] = {}
        for start in range(0, count, self._batch):
            for name, rows in self._session.run(self._feed(start)).items():
                found.setdefault(name, []).append(rows.copy())
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def warm_up(self, mode: Mode, limit_s: float) -> WarmUp:
        return clock.warm_up(self._calls[mode], limit_s)

    def measure(self, mode: Mode, seconds: float, samples: int) -> Samples:
        # Other cells have run in between: a tenth of the time brings this one's data back into the caches.
        warmup_s = seconds / 10
        call = self._calls[mode]
        if isinstance(call, Bound) and call.stream is not None:
            return clock.measure_on_device(call, warmup_s=warmup_s, min_duration_s=seconds, min_samples=samples)
        return clock.measure(call, warmup_s=warmup_s, min_duration_s=seconds, min_samples=samples)

    def settings(self, mode: Mode) -> tuple[dict[str, Any], Clock]:
        call = self._calls[mode]
        on_device = isinstance(call, Bound) and call.stream is not None
        return dict(self._session.settings), "cuda_events" if on_device else "perf_counter_ns"
