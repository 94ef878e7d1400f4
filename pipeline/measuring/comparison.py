"""Two runs of the benchmark compared: what became faster, what slower, and what is not significant.

Within a run cells are timed in turn, and drift of the machine cancels in each round's ratio. Between two runs nothing
cancels: rounds are unpaired, and the machine, or the process a cell runs in, may be at another level.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from pipeline.artifacts.results import BenchmarkResults, Cell, Mode, Peaks, RunEnvironment, Timing
from pipeline.environment import Machine
from pipeline.measuring import statistics


class Timed(NamedTuple):
    """A cell that was timed, with its timing."""

    cell: Cell
    timing: Timing


MIN_ROUNDS = 6
"""Of each run: the least and the greatest of n rounds hold the median between them with 1 − 2^(1 − n), which is 95 %
from 6 on (H. A. David, H. N. Nagaraja, Order Statistics, 2003, section 7.1). Of fewer no interval can say as much."""

GONE, NEW, NOT_RUN, NO_VERDICT = "gone", "new", "not run", "no verdict"


class Key(NamedTuple):
    """What makes cells of two runs the same one."""

    runner: str
    batch: int
    mode: Mode
    device: str

    def __str__(self) -> str:
        return f"{self.runner}, batch {self.batch}, {self.mode}, {self.device}"


@dataclass(frozen=True)
class Row:
    """A cell of both runs; `ratio` is old over new, so above 1 the new run is faster.

    `verdict` is "faster", "slower" or statistics.NOT_SIGNIFICANT; NO_VERDICT where the runs are not comparable; GONE
    where the new run has no such timing, NOT_RUN where it has none of that batch size, NEW where the old run has none.
    """

    key: Key
    verdict: str
    reason: str = ""
    old_us: float | None = None
    new_us: float | None = None
    ratio: statistics.Ratio | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All rows, in the old run's order; what differs around them, and why that forbids verdicts, if it does."""

    rows: list[Row]
    differences: list[str] = field(default_factory=list)
    incomparable: str = ""

    @property
    def regressions(self) -> list[Row]:
        """Return the cells that became slower or are gone; none where the runs are not comparable."""
        return [] if self.incomparable else [row for row in self.rows if row.verdict in ("slower", GONE)]


def compare(old: BenchmarkResults, new: BenchmarkResults) -> Comparison:
    """Compare two runs, cell by cell; A/A repeats and the harness itself are left out.

    A cell is faster or slower where the whole 95 % interval of the ratio of its medians lies beyond the floor: the
    larger of both runs' noise floors at that batch size on that device, and on top of it the change of the
    machine's own peaks between the runs, where both have measured them. They add up, as the shifts do.
    A cell that was timed and no longer is, is a regression too.

    False alarms, by simulation (tests/measuring/test_comparison.py: 200 pairs of equal runs, six cells each, ten rounds
    with 2 % of noise and 2 % of slow drift): where each process settles at a level of its own, 1 % around the
    machine's, 0.5 % of the pairs had a cell called slower; at levels 2 % around it, 5.5 %. With 5 % of slow drift it
    was 10 %: rounds resemble their neighbours too much then. Where the machine itself differed by 5 % between the runs
    it was 0.5 % with its peaks measured, and 32 % without. A slow-down of 20 % was found in 97 % of its cells or more,
    and in 73 % where the machine itself differed.

    On another machine, or with another dataset's model, there are ratios without verdicts.
    """
    incomparable = _incomparable(old.environment, new.environment)
    before, after = _timed(old), _timed(new)
    rows = []
    for key in dict.fromkeys([*before, *after]):
        if key not in after:
            rows.append(_gone(key, new))
        elif key not in before:
            rows.append(Row(key, NEW, new_us=_p50(after[key])))
        else:
            rows.append(_judged(key, before[key], after[key], _floor(key, old, new), incomparable))
    return Comparison(rows, list(_differences(old.environment, new.environment)), incomparable)


def _timed(results: BenchmarkResults) -> dict[Key, Timed]:
    return {
        Key(cell.runner.name, cell.batch, cell.mode, str(cell.device)): Timed(cell, cell.timing)
        for cell in results.cells
        if cell.timing and not cell.repeat and cell.runner.role != "harness"
    }


def _p50(timed: Timed) -> float:
    return float(np.median(timed.timing.round_p50_us))


def _gone(key: Key, new: BenchmarkResults) -> Row:
    """Return the row of a cell that the new run has no timing of, with the new run's reason."""
    if key.batch not in {cell.batch for cell in new.cells}:
        return Row(key, NOT_RUN, "the new run has no such batch size")
    if new.interrupted:
        return Row(key, NOT_RUN, "the new run was interrupted")
    same = [cell for cell in new.cells if (cell.runner.name, cell.batch, cell.mode) == key[:3]]
    reasons = [f"ran on {cell.device}" if cell.status == "ok" else f"{cell.status}: {cell.reason}" for cell in same]
    return Row(key, GONE, reasons[0] if reasons else "not among the new run's cells")


def _judged(key: Key, old: Timed, new: Timed, floor: float | None, incomparable: str) -> Row:
    before, after = old.timing.round_p50_us, new.timing.round_p50_us
    ratio = _ratio(before, after)
    verdict: str = statistics.NOT_SIGNIFICANT
    reason = ""
    if incomparable:
        verdict = NO_VERDICT
    elif old.cell.clock != new.cell.clock:
        reason = f"timed by {old.cell.clock}, and then by {new.cell.clock}"
    elif min(len(before), len(after)) < MIN_ROUNDS:
        reason = f"fewer than {MIN_ROUNDS} rounds"
    elif floor is None:
        reason = "no noise floor was measured"
    else:
        verdict = statistics.verdict(ratio, floor)
    return Row(key, verdict, reason, _p50(old), _p50(new), ratio, floor)


def _ratio(old_us: Sequence[float], new_us: Sequence[float]) -> statistics.Ratio:
    """Return old median over new median, with the bootstrap interval over both runs' rounds, which are unpaired."""

    def statistic(old: Any, new: Any, axis: int = -1) -> Any:
        return np.median(old, axis=axis) / np.median(new, axis=axis)

    point = float(statistic(old_us, new_us))
    if min(len(old_us), len(new_us)) < 2:
        return statistics.Ratio(point, None)
    return statistics.Ratio(point, statistics.bootstrap(statistic, old_us, new_us))


def _floor(key: Key, old: BenchmarkResults, new: BenchmarkResults) -> float | None:
    """Return the smallest difference between the runs that may be called one, as a fraction; None where unmeasured."""
    noise = [
        row.floor
        for results in (old, new)
        for row in results.noise_floor
        if (row.batch, row.device) == (key.batch, key.device)
    ]
    before, after = (_rates(results.limits.get(key.device)) for results in (old, new))
    drift = [max(before[name] / after[name], after[name] / before[name]) - 1 for name in before.keys() & after.keys()]
    return max(noise) + max(drift, default=0.0) if noise else None


def _rates(peaks: Peaks | None) -> dict[str, float]:
    """Return a device's measured peaks: its rates, things per second."""
    if peaks is None:
        return {}
    found = {f"macs/{name}": rate for name, rate in peaks.macs_per_s.items()}
    found |= {"bytes": peaks.bytes_per_s or 0.0, "pcie": peaks.pcie_bytes_per_s or 0.0}
    return {name: rate for name, rate in found.items() if rate > 0}


def _identity(machine: Machine) -> tuple[object, ...]:
    """Return what makes a machine this one: not its system and drivers, which are versions."""
    return machine.cpu, machine.cores, tuple(replace(gpu, driver="") for gpu in machine.gpus)


def _incomparable(old: RunEnvironment, new: RunEnvironment) -> str:
    if _identity(old.machine) != _identity(new.machine):
        return "the runs were made on different machines"
    if old.dataset != new.dataset:
        return "the runs timed models trained on different datasets"
    return ""


def _differences(old: RunEnvironment, new: RunEnvironment) -> Iterator[str]:
    for before, after in zip(_flat(old), _flat(new), strict=True):
        for name in dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name):
                yield f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"


def _flat(environment: RunEnvironment) -> list[Mapping[str, object]]:
    machine = {"machine": str(environment.machine), "system": environment.machine.system}
    named = {"dataset": environment.dataset, "threads": environment.threads}
    settings = {f"benchmark.{name}": value for name, value in environment.settings.items()}
    return [machine, named, settings, environment.versions]
