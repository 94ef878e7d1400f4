"""The one clock: what is timed, and how. Backends never time themselves, so that all numbers are of one kind.

Each cell, which is one way to run the model with one batch size, lives in a process of its own, and all
cells of a batch size are timed in turn, round after round: what slows the machine down for a while hits all alike.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backends import Bound, LoadOptions
from pipeline.errors import PipelineError
from pipeline.measuring import conditions, statistics
from pipeline.tensors import Array

HOST_CLOCK, DEVICE_CLOCK = "perf_counter_ns", "cuda_events"

MODES = ("end_to_end", "compute")
"""Host array to host array; or, on a GPU, inputs resident there: the inference alone."""

ORIGINAL, NULL = "tensorflow", "null"
"""The backend that runs the original model, and the one that does nothing."""

STABLE = 0.05
"""A cell is warm when the medians of two windows in succession differ by less than this fraction."""

WINDOW_CALLS, WINDOW_S = 5, 0.02


@dataclass(frozen=True)
class Contender:
    """One way to run the model, in one precision.

    `module` satisfies pipeline.backends.Backend. `source` is the import path of the user's model, whose layers are
    registered before it is loaded. A `twin` repeats the contender before it, under the same settings, to show the
    noise. What is to be skipped says why.
    """

    module: str
    variant: str
    precision: str
    path: Path
    options: LoadOptions
    source: str = ""
    twin: bool = False
    skip: str = ""

    @property
    def backend(self) -> str:
        """The backend's name: its file's."""
        return self.module.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.backend} {self.variant} {self.precision}{' (again)' if self.twin else ''}"


def key(backend: str, variant: str, precision: str, twin: bool, batch: int, mode: str) -> str:
    """Name a cell in `samples.npz`."""
    return f"{backend}/{variant}/{precision}{'.twin' if twin else ''}/{batch}/{mode}"


@dataclass
class Cell:
    """One contender with one batch size in one mode; `rounds` holds its samples in ns."""

    contender: Contender
    batch: int
    mode: str
    device: str | None = None
    status: str = "skipped"
    reason: str = ""
    clock: str = HOST_CLOCK
    settings: dict[str, Any] = field(default_factory=dict)
    warmup: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    rounds: list[statistics.Samples] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Name the cell in `samples.npz`."""
        one = self.contender
        return key(one.backend, one.variant, one.precision, one.twin, self.batch, self.mode)

    @property
    def summary(self) -> statistics.Summary:
        """What its samples say."""
        return statistics.summarise(self.rounds, self.batch)

    def row(self) -> dict[str, Any]:
        """Return the cell as it stands in `results.json`."""
        row = {
            "backend": self.contender.backend,
            "variant": self.contender.variant,
            "precision": self.contender.precision,
            "device": self.device,
            "batch": self.batch,
            "mode": self.mode,
            "twin": self.contender.twin,
            "status": self.status,
            "reason": self.reason,
            "clock": self.clock,
            "settings": self.settings,
            "warmup": self.warmup,
            "conditions": self.conditions,
        }
        if self.status != "ok":
            return (
                row
                | {"samples": 0}
                | {name: None for name in statistics.Summary.__dataclass_fields__ if name != "samples"}
            )
        return row | asdict(self.summary)


@dataclass(frozen=True)
class Timing:
    """For how long cells are timed: at least `seconds` and `min_samples` each, over all rounds."""

    seconds: float
    min_samples: int
    rounds: int
    warmup_s: float


Progress = Callable[[str], None]
"""Is told what comes next: once for each warm-up and each cell of each round."""


def steps(contenders: Sequence[Contender], timing: Timing) -> int:
    """Return how often `time_batch` tells its progress at most."""
    return sum(not contender.skip for contender in contenders) * (2 + timing.rounds)


def time_batch(
    contenders: Sequence[Contender],
    images: Path,
    batch: int,
    timing: Timing,
    wrong: Callable[[Contender, Array, Array | None], str],
    progress: Progress = lambda what: None,
) -> tuple[list[Cell], bool]:
    """Time all contenders on batches of the images, in turn; return their cells, and whether Ctrl-C cut it short.

    What was measured in whole rounds is kept then. A contender that fails leaves a cell with the reason.

    Args:
        contenders: the first that runs is the one whose outputs the others are held against.
        images: an .npy file of uint8 [a multiple of batch, …]; the outputs for all are checked, the first batch timed.
        batch: samples per call.
        timing: for how long.
        wrong: tells what is wrong with a contender's outputs [samples, classes], given the first one's, or nothing.
        progress: is told each step.
    """
    from pipeline.measuring.worker import Worker

    cells: list[Cell] = []
    running: list[tuple[Cell, Worker]] = []
    references: list[Array] = []
    interrupted = False

    def check(worker: Worker) -> str:
        scores = worker.outputs()
        found = wrong(worker.contender, scores, references[0] if references else None)
        if not found and not references:
            references.append(scores)
        return found

    with ExitStack() as stack:
        try:
            for contender in contenders:
                cell = Cell(contender, batch, MODES[0], reason=contender.skip)
                cells.append(cell)
                if contender.skip:
                    continue
                progress(f"loading {contender}")
                worker = stack.enter_context(Worker(contender, images, batch))
                cell.status, cell.reason = worker.status, worker.reason
                cell.device = worker.device
                if cell.status != "ok":
                    continue
                if found := check(worker):
                    cell.status, cell.reason = "failed", found
                    continue
                of_modes = [cell, *(replace(cell, mode=mode, rounds=[]) for mode in worker.modes if mode != cell.mode)]
                cells += of_modes[1:]
                for one in of_modes:
                    one.reason = worker.modes[one.mode]
                    one.status = "skipped" if one.reason else "ok"
                    running += [(one, worker)] if one.status == "ok" else []
            for cell, worker in running:
                progress(f"warming up {cell.contender}")
                with _failing(cell):
                    cell.warmup = worker.warm_up(cell.mode, timing.warmup_s)
            _fill(running, timing, progress)
            for cell, worker in running:
                with _failing(cell):
                    cell.settings, cell.clock = worker.settings(cell.mode)
                    if found := check(worker):
                        cell.status, cell.reason = "failed", f"after it was timed: {found}"
        except KeyboardInterrupt:
            interrupted = True
    whole = min((len(cell.rounds) for cell, _ in running if cell.status == "ok"), default=0)
    for cell, _ in running:
        del cell.rounds[whole:]
        if cell.status == "ok" and not cell.rounds:
            cell.status, cell.reason = "skipped", "interrupted before it was timed"
    return cells, interrupted


@contextmanager
def _failing(cell: Cell) -> Iterator[None]:
    """Record in the cell what makes it fail; the others go on."""
    try:
        yield
    except PipelineError as error:
        cell.status, cell.reason = "failed", error.message


def _fill(running: list[tuple[Cell, Any]], timing: Timing, progress: Progress) -> None:
    """Fill every cell's rounds, all cells in turn in each round and in another order each time."""
    order = random.Random(0)  # noqa: S311  an order, not a secret
    seconds = timing.seconds / timing.rounds
    samples = -(-timing.min_samples // timing.rounds)
    for number in range(timing.rounds):
        for cell, worker in order.sample(running, len(running)):
            if cell.status != "ok":
                continue
            progress(f"round {number + 1} of {timing.rounds}: {cell.contender}")
            with _failing(cell):
                cell.rounds.append(worker.measure(cell.mode, seconds, samples))
                # Now, while the device is still at the speed at which it ran.
                cell.conditions["start" if number == 0 else "end"] = conditions.read()


def warm_up(call: Callable[[], object], limit_s: float) -> dict[str, Any]:
    """Call until the level is stable, or for `limit_s`, but at least once; return what it took.

    Compilers, caches, clocks and memory pools settle during the first calls. The level is stable when the medians of
    two windows of calls in succession, each of at least `WINDOW_CALLS` and `WINDOW_S`, differ by less than `STABLE`.
    """
    clock = time.perf_counter
    begun = clock()
    call()  # compiles what is compiled on first use: belongs to no window
    calls, before, stable = 1, 0.0, False
    while not stable and clock() - begun < limit_s:
        window: list[float] = []
        while (len(window) < WINDOW_CALLS or sum(window) < WINDOW_S) and clock() - begun < limit_s:
            start = clock()
            call()
            window.append(clock() - start)
        calls += len(window)
        level = float(np.median(window)) if window else 0.0
        stable = before > 0 and abs(level - before) < STABLE * before
        before = level
    return {"calls": calls, "seconds": round(clock() - begun, 3), "stable": stable}


def measure(
    call: Callable[[], object], *, warmup_s: float, min_duration_s: float, min_samples: int
) -> statistics.Samples:
    """Return the durations of single calls, int64 [samples] in ns.

    Calls at least once, and for `warmup_s`, before it counts; then until both `min_duration_s` and `min_samples` are
    reached. Garbage collection waits meanwhile.
    """
    samples: list[int] = []
    clock = time.perf_counter_ns
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = clock() + int(warmup_s * 1e9)
        call()
        while clock() < end:
            call()
        start = clock()
        end = start + int(min_duration_s * 1e9)
        while start < end or len(samples) < min_samples:
            call()
            now = clock()
            samples.append(now - start)
            start = now
    finally:
        if collecting:
            gc.enable()
    return np.asarray(samples, np.int64)


def measure_on_device(bound: Bound, *, warmup_s: float, min_duration_s: float, min_samples: int) -> statistics.Samples:
    """As `measure`, but by CUDA events on the stream that the inference runs on: int64 [samples] in ns.

    Each inference is waited for before the next is launched. Never run on a GPU yet.
    """
    from pipeline import cuda

    assert bound.stream is not None
    events = cuda.EventClock(bound.stream)
    samples: list[int] = []

    def call() -> None:
        samples.append(events.time_ns(bound.launch))

    warm = len(measure(call, warmup_s=warmup_s, min_duration_s=min_duration_s, min_samples=min_samples))
    return np.asarray(samples[-warm:], np.int64)
