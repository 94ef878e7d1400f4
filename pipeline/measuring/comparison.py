"""Two runs of the benchmark compared: what became faster, what slower, and what cannot be told.

Within a run cells are timed in turn, and drift of the machine cancels in each round's ratio. Between two runs nothing
cancels: rounds are unpaired, and the machine, or the process a cell runs in, may be at another level.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.results import Cell, Environment, Results, read
from pipeline.errors import RegressionError
from pipeline.measuring import statistics

__all__ = ["Comparison", "Row", "compare", "read", "show"]

MIN_ROUNDS = 6
"""Of each run: the least and the greatest of n rounds hold the median between them with 1 − 2^(1 − n), which is 95 %
from 6 on (H. A. David, H. N. Nagaraja, Order Statistics, 2003, section 7.1). Of fewer no interval can say as much."""

GONE, NEW, NOT_RUN, NO_VERDICT = "gone", "new", "not run", "no verdict"


class Key(NamedTuple):
    """What makes cells of two runs the same one; `kind` is "cpu" or "cuda"."""

    backend: str
    variant: str
    precision: str
    batch: int
    mode: str
    kind: str

    def __str__(self) -> str:
        return f"{self.backend} {self.variant}, {self.precision}, batch {self.batch}, {self.mode}, {self.kind}"


@dataclass(frozen=True)
class Row:
    """A cell of both runs; `ratio` is old over new, so above 1 the new run is faster.

    `verdict` is "faster", "slower" or latency.UNTOLD; NO_VERDICT where the runs are not comparable; GONE where the new
    run has no such timing, NOT_RUN where it has none of that batch size, NEW where the old run has none.
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


def compare(old: Results, new: Results) -> Comparison:
    """Compare two runs, cell by cell; twins, and the `null` backend, which is the harness itself, are left out.

    A cell is faster or slower where the whole 95 % interval of the ratio of its medians lies beyond the floor: the
    larger of both runs' noise floors at that batch size on that kind of device, and on top of it the change of the
    machine's own peaks between the runs, where both have measured them. They add up, as the shifts do.
    A cell that was timed and no longer is, is a regression too.

    False alarms, by simulation (tests/test_comparison.py: 200 pairs of equal runs, six cells each, ten rounds with 2 %
    of noise and 2 % of slow drift): where each process settles at a level of its own, 1 % around the machine's, 0.5 %
    of the pairs had a cell called slower; at levels 2 % around it, 5.5 %. With 5 % of slow drift it was 10 %: rounds
    resemble their neighbours too much then. Where the machine itself differed by 5 % between the runs it was 0.5 % with
    its peaks measured, and 32 % without. A slow-down of 20 % was told in 97 % of its cells or more, and in 73 % where
    the machine itself differed.

    On another machine, or with another dataset's model, ratios are worth a look and never a verdict.
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


def show(old: Results, new: Results, console: Console, *, fail: bool = False) -> Comparison:
    """Compare two runs and print the result: medians in µs, their ratio with its 95 % interval, the floor, the verdict.

    Raises:
        RegressionError: `fail` is set, and a cell became slower or is gone.
    """
    found = compare(old, new)
    console.print(_table(found.rows))
    for difference in found.differences:
        console.print(f"differs: {difference}", markup=False)
    if found.incomparable:
        console.print(f"no verdicts, and no regressions: {found.incomparable}", markup=False)
    counts = Counter(row.verdict for row in found.rows)
    console.print(", ".join(f"{verdict}: {count}" for verdict, count in counts.items()) or "no cell in either run")
    if fail and found.regressions:
        lines = "\n".join(f"  {row.key}: {_explained(row)}" for row in found.regressions)
        raise RegressionError(
            f"worse than in the old results, {len(found.regressions)} of {len(found.rows)} cells:\n{lines}",
            "Run the benchmark again: what a machine's mood made is not there twice.",
        )
    return found


def _kind(device: str | None) -> str:
    return "cpu" if device in (None, "cpu") else "cuda"


def _timed(results: Results) -> dict[Key, Cell]:
    return {
        Key(cell.backend, cell.variant, cell.precision, cell.batch, cell.mode, _kind(cell.device)): cell
        for cell in results.cells
        if cell.status == "ok" and cell.round_p50_us and not cell.twin and cell.backend != "null"
    }


def _p50(cell: Cell) -> float:
    return float(np.median(cell.round_p50_us or ()))


def _gone(key: Key, new: Results) -> Row:
    """Return the row of a cell that the new run has no timing of, with the new run's reason."""
    if key.batch not in {cell.batch for cell in new.cells}:
        return Row(key, NOT_RUN, "the new run has no such batch size")
    if new.interrupted:
        return Row(key, NOT_RUN, "the new run was interrupted")
    same = [
        cell for cell in new.cells if (cell.backend, cell.variant, cell.precision, cell.batch, cell.mode) == key[:5]
    ]
    told = [f"ran on {cell.device}" if cell.status == "ok" else f"{cell.status}: {cell.reason}" for cell in same]
    return Row(key, GONE, told[0] if told else "not among the new run's cells")


def _judged(key: Key, old: Cell, new: Cell, floor: float | None, incomparable: str) -> Row:
    before, after = old.round_p50_us or [], new.round_p50_us or []
    ratio = _ratio(before, after)
    verdict, reason = statistics.UNTOLD, ""
    if incomparable:
        verdict = NO_VERDICT
    elif old.clock != new.clock:
        reason = f"timed by {old.clock}, and then by {new.clock}"
    elif min(len(before), len(after)) < MIN_ROUNDS:
        reason = f"fewer than {MIN_ROUNDS} rounds"
    elif floor is None:
        reason = "no noise floor was measured"
    else:
        verdict = statistics.verdict(ratio, floor)
    return Row(key, verdict, reason, _p50(old), _p50(new), ratio, floor)


def _ratio(old_us: list[float], new_us: list[float]) -> statistics.Ratio:
    """Return old median over new median, with the bootstrap interval over both runs' rounds, which are unpaired."""

    def statistic(old: Any, new: Any, axis: int = -1) -> Any:
        return np.median(old, axis=axis) / np.median(new, axis=axis)

    point = float(statistic(old_us, new_us))
    if min(len(old_us), len(new_us)) < 2:
        return statistics.Ratio(point, None)
    return statistics.Ratio(point, statistics.bootstrap(statistic, old_us, new_us))


def _floor(key: Key, old: Results, new: Results) -> float | None:
    """Return the smallest difference between the runs that may be called one, as a fraction; None where unmeasured."""
    noise = [
        row.floor
        for results in (old, new)
        for row in results.noise_floor
        if (row.batch, _kind(row.device)) == (key.batch, key.kind)
    ]
    before, after = (dict(_peaks((results.limits or {}).get(key.kind))) for results in (old, new))
    drift = [max(before[name] / after[name], after[name] / before[name]) - 1 for name in before.keys() & after.keys()]
    return max(noise) + max(drift, default=0.0) if noise else None


def _peaks(limits: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield a device's measured peaks: its rates, things per second, at any depth."""
    if isinstance(limits, Mapping):
        for inner, value in limits.items():
            yield from _peaks(value, f"{name}/{inner}")
    elif "_per_s" in name and isinstance(limits, int | float) and limits > 0:
        yield name, float(limits)


def _identity(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a machine this one: not its system and drivers, which are versions."""
    gpus = [{name: gpu[name] for name in gpu if name != "driver"} for gpu in machine.get("gpus") or ()]
    return {"cpu": machine.get("cpu"), "cores": machine.get("cores"), "gpus": gpus}


def _incomparable(old: Environment, new: Environment) -> str:
    if _identity(old.machine) != _identity(new.machine):
        return "the runs were made on different machines"
    if old.dataset != new.dataset:
        return "the runs timed models of different datasets"
    return ""


def _differences(old: Environment, new: Environment) -> Iterator[str]:
    for before, after in zip(_flat(old), _flat(new), strict=True):
        for name in dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name):
                yield f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"


def _flat(environment: Environment) -> list[dict[str, Any]]:
    named = {"dataset": environment.dataset, "threads": environment.threads}
    settings = {f"benchmark.{name}": value for name, value in environment.settings.items()}
    return [environment.machine, named, settings, environment.versions]


def _table(rows: list[Row]) -> Table:
    table = Table(title="Old over new: above 1 is faster now", title_justify="left")
    for column in ("batch", "mode", "model run by", "device", "old µs", "new µs", "times as fast", "floor", "verdict"):
        table.add_column(column, overflow="fold")  # on a narrow terminal nothing is cut off
    for row in rows:
        key = row.key
        table.add_row(
            *(str(key.batch), key.mode, f"{key.backend} {key.variant} {key.precision}", key.kind),
            *("" if value is None else f"{value:,.1f}" for value in (row.old_us, row.new_us)),
            _times(row.ratio) if row.ratio else "",
            "" if row.floor is None else f"{row.floor:.1%}",
            Text(f"{row.verdict}: {row.reason}" if row.reason else row.verdict),
        )
    return table


def _times(ratio: statistics.Ratio) -> str:
    interval = f" ({ratio.ratio_ci95[0]:.3f}–{ratio.ratio_ci95[1]:.3f})" if ratio.ratio_ci95 else ""
    return f"{ratio.ratio:.3f}{interval}"


def _explained(row: Row) -> str:
    if row.ratio is None:
        return f"{row.verdict}, {row.reason}"
    return f"{_times(row.ratio)} times as fast, beyond the floor of {row.floor:.1%}"
