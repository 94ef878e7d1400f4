"""How runners are timed: each cell in a process of its own, and all cells of a batch size in turn, round after round.

So what slows the machine down for a while hits all alike.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.measuring import conditions
from pipeline.measuring.cells import MODES, Measurement, Schedule, Timed
from pipeline.measuring.worker import Worker
from pipeline.tensors import Outputs

Progress = Callable[[str], None]
"""Called with what comes next: once for each warm-up and each cell of each round."""

Wrong = Callable[[Timed, Outputs, Outputs | None], str]
"""Returns what is wrong with a runner's outputs [samples, classes], given the first one's, or nothing."""

Running = list[tuple[Measurement, Worker]]


def steps(timed: Sequence[Timed], schedule: Schedule) -> int:
    """Return how often `time_batch` reports progress at most."""
    return sum(not one.skip for one in timed) * (2 + schedule.rounds)


def time_batch(
    timed: Sequence[Timed],
    samples: Path,
    batch: int,
    schedule: Schedule,
    wrong: Wrong,
    progress: Progress = lambda what: None,
) -> tuple[list[Measurement], bool]:
    """Time all runners on batches of the samples, in turn; return their cells, and whether Ctrl-C cut it short.

    What was measured in whole rounds is kept then. A runner that fails leaves a cell with the reason.

    Args:
        timed: the others' outputs are compared with those of the first that runs.
        samples: an .npz file of each input, [a multiple of batch, …]; the outputs for all are checked, the first batch
            timed.
        batch: samples per call.
        schedule: for how long.
        wrong: checks outputs.
        progress: called with each step.
    """
    cells: list[Measurement] = []
    running: Running = []
    interrupted = False
    check = _Checked(wrong)
    with ExitStack() as stack:
        try:
            for one in timed:
                cells += _loaded(one, samples, batch, schedule.patience_s, check, stack, running, progress)
            for cell, worker in running:
                progress(f"warming up {cell.timed}")
                with _failing(cell):
                    cell.warmup = worker.warm_up(cell.mode, schedule.warmup_s)
            _fill(running, schedule, progress)
            for cell, worker in running:
                if cell.status != "ok":
                    continue
                with _failing(cell):
                    cell.settings, cell.clock = worker.settings(cell.mode)
                    if found := check(worker):
                        cell.status, cell.reason = "failed", f"after it was timed: {found}"
        except KeyboardInterrupt:
            interrupted = True
    _keep_whole_rounds(running)
    return cells, interrupted


class _Checked:
    """Compares outputs with the first runner's."""

    def __init__(self, wrong: Wrong) -> None:
        self._wrong = wrong
        self._reference: Outputs | None = None

    def __call__(self, worker: Worker) -> str:
        outputs = worker.outputs()
        found = self._wrong(worker.timed, outputs, self._reference)
        if not found and self._reference is None:
            self._reference = outputs
        return found


def _loaded(
    timed: Timed,
    samples: Path,
    batch: int,
    patience_s: float,
    check: _Checked,
    stack: ExitStack,
    running: Running,
    progress: Progress,
) -> list[Measurement]:
    """Start a runner's process and check its outputs; return its cells, one for each mode."""
    cell = Measurement(timed, batch, MODES[0], reason=timed.skip)
    if timed.skip:
        return [cell]
    progress(f"loading {timed}")
    worker = stack.enter_context(Worker(timed, samples, batch, patience_s))
    cell.status, cell.reason, cell.device = worker.status, worker.reason, worker.device
    if cell.status != "ok":
        return [cell]
    with _failing(cell):
        if found := check(worker):
            cell.status, cell.reason = "failed", found
    if cell.status != "ok":
        return [cell]
    of_modes = [cell, *(replace(cell, mode=mode, rounds=[]) for mode in worker.modes if mode != cell.mode)]
    for one in of_modes:
        one.reason = worker.modes[one.mode]
        one.status = "skipped" if one.reason else "ok"
        running += [(one, worker)] if one.status == "ok" else []
    return of_modes


@contextmanager
def _failing(cell: Measurement) -> Iterator[None]:
    """Record in the cell what makes it fail; the others go on."""
    try:
        yield
    except PipelineError as error:
        cell.status, cell.reason = "failed", error.message


def _fill(running: Running, schedule: Schedule, progress: Progress) -> None:
    """Fill every cell's rounds, all cells in turn in each round and in another order each time."""
    order = random.Random(0)  # noqa: S311  an order, not a secret
    seconds = schedule.seconds / schedule.rounds
    samples = -(-schedule.min_samples // schedule.rounds)
    for number in range(schedule.rounds):
        for cell, worker in order.sample(running, len(running)):
            if cell.status != "ok":
                continue
            progress(f"round {number + 1} of {schedule.rounds}: {cell.timed}")
            with _failing(cell):
                cell.rounds.append(worker.measure(cell.mode, seconds, samples))
                # Now, while the device is still at the speed at which it ran.
                if number == 0:
                    cell.start = conditions.read()
                else:
                    cell.end = conditions.read()


def _keep_whole_rounds(running: Running) -> None:
    """Drop what an interrupted round has measured: a ratio needs both of a round."""
    whole = min((len(cell.rounds) for cell, _ in running if cell.status == "ok"), default=0)
    for cell, _ in running:
        del cell.rounds[whole:]
        if cell.status == "ok" and not cell.rounds:
            cell.status, cell.reason = "skipped", "interrupted before it was timed"
