"""What was timed, as tables for the terminal and for markdown, and whether what we claim of our runner holds."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.table import Table

from benchmarks.runners import LOOP, ONNXRUNTIME, TENSORRT, ours
from pipeline.artifacts.results import Mode, NoiseFloor
from pipeline.measuring import speedups, statistics
from pipeline.measuring.cells import MODES, Measurement
from pipeline.tables.numbers import written

BATCH_1, CNN_1024 = 1.05, 1.8
"""What is claimed: at batch 1 at most so many times the bare loop's time; at batch 1,024 of the article's CNN at least
so many times its items per second."""

HOLDS, FAILS, UNTOLD = "holds", "does not hold", "too noisy to tell"

WIDE = 0.10
"""A noise floor beyond which a single ratio proves nothing."""

COLUMNS = ("batch", "run by", "p50 µs", "95 %", "items/s", "ours over it", "95 %", "ours is")


class Timed(NamedTuple):
    """All cells of one network."""

    network: str
    cells: Sequence[Measurement]

    def ok(self, mode: Mode) -> list[Measurement]:
        """Return those that were timed in this mode."""
        return [cell for cell in self.cells if cell.mode == mode and cell.status == "ok"]

    def floors(self) -> list[NoiseFloor]:
        """Return what our runner's A/A repeats show of the noise."""
        return speedups.noise_floors(self.cells)

    def find(self, module: str, batch: int, mode: Mode = MODES[0], device: str = "cpu") -> Measurement | None:
        """Return the cell of a module, or None."""
        return next(
            (
                cell
                for cell in self.ok(mode)
                if (cell.runner.module, cell.batch, cell.device) == (module, batch, device) and not cell.timed.repeat
            ),
            None,
        )

    def our_rival(self, cell: Measurement) -> Measurement | None:
        """Return our runner's cell that a cell is to be compared with: on the same device, the fastest kind there."""
        for module in (TENSORRT, ONNXRUNTIME):
            found = self.find(module, cell.batch, cell.mode, str(cell.device))
            if found is not None and (not ours(cell.runner) or cell.timed.repeat):
                return found
        return None


def rows(timed: Timed, mode: Mode) -> list[tuple[str, ...]]:
    """Return the rows of the table of one mode, ready to be printed, under `COLUMNS`."""
    found = []
    floors = timed.floors()
    for cell in timed.ok(mode):
        summary, rival = cell.timing, timed.our_rival(cell)
        row = [
            str(cell.batch),
            str(cell.timed),
            written(summary.p50_us, "us"),
            span(summary.p50_ci95_us),
        ]
        row.append(f"{summary.items_per_s:,.0f}")
        if rival is None:
            row += ["", "", ""]
        else:
            ratio = statistics.speedup(summary.round_p50_us, rival.timing.round_p50_us)
            floor = speedups.floor_between(cell, rival, floors)
            verdict = statistics.verdict(ratio, floor)
            row += [
                f"{ratio.ratio:.2f}×",
                span(ratio.ratio_ci95, ".2f"),
                "" if verdict == statistics.NOT_SIGNIFICANT else verdict,
            ]
        found.append(tuple(row))
    return found


def missing(timed: Timed) -> list[str]:
    """Return a line for each reason why something was not timed, or was not right."""
    reasons: dict[str, dict[str, None]] = {}
    for cell in timed.cells:
        if cell.status != "ok":
            who = str(cell.timed)
            reasons.setdefault(f"{cell.status}: {cell.reason}", {})[who] = None
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


class Claim(NamedTuple):
    """A claim with its numbers, and what they say of it: HOLDS, FAILS or UNTOLD."""

    words: str
    verdict: str


def checks(everything: Sequence[Timed]) -> Iterator[Claim]:
    """Yield what is claimed of our ONNX Runtime runner on the CPU."""
    for timed in everything:
        floors = timed.floors()
        for batch in sorted({cell.batch for cell in timed.cells}):
            mine, bare = timed.find(ONNXRUNTIME, batch), timed.find(LOOP, batch)
            if mine is None or bare is None:
                continue
            where, floor = f"{timed.network}, batch {batch:,}", speedups.floor_between(mine, bare, floors)
            ours_us, bare_us = mine.timing.round_p50_us, bare.timing.round_p50_us
            if batch == 1:
                ratio = statistics.speedup(ours_us, bare_us)
                words = f"{where}: our p50 is {_with_interval(ratio)} of the bare loop's, at most {BATCH_1}"
                yield Claim(words, _judge(ratio, floor, lambda value: value <= BATCH_1))
            if (timed.network, batch) == ("article_cnn", 1024):
                ratio = statistics.speedup(bare.timing.round_mean_us, mine.timing.round_mean_us)
                words = f"{where}: {_with_interval(ratio)} times the bare loop's items per second, at least {CNN_1024}"
                yield Claim(words, _judge(ratio, floor, lambda value: value >= CNN_1024))
            ratio = statistics.speedup(bare_us, ours_us)
            words = f"{where}: {_with_interval(ratio)} times as fast as the bare loop, noise {floor:.1%}: not slower"
            margin = 1 / (1 + min(floor, WIDE))
            yield Claim(words, _judge(ratio, floor, lambda value, margin=margin: value >= margin))  # type: ignore[misc]
        for row in floors:
            low, high = row.ratio_ci95 or (row.ratio, row.ratio)
            where = f"{timed.network}, batch {row.batch:,}, {row.mode}"
            words = f"{where}: A/A {row.ratio:.3f} ({low:.3f} – {high:.3f}) contains 1"
            yield Claim(words, HOLDS if low <= 1 <= high else FAILS)


def _judge(ratio: statistics.Ratio, floor: float, is_so: Callable[[float], bool]) -> str:
    """Judge by the ratio, or, where the noise is `WIDE`, only if its whole interval agrees."""
    judged = {is_so(value) for value in (ratio.ratio, *(ratio.ratio_ci95 or ()))}
    if floor > WIDE and len(judged) > 1:
        return UNTOLD
    return HOLDS if is_so(ratio.ratio) else FAILS


def _with_interval(ratio: statistics.Ratio) -> str:
    return f"{ratio.ratio:.3f} ({span(ratio.ratio_ci95, '.3f')})"


def rich_table(title: str, found: Sequence[tuple[str, ...]]) -> Table:
    """Return a table for the terminal."""
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True, justify="left" if column in ("run by", "ours is") else "right")
    for row in found:
        table.add_row(*row)
    return table


def markdown(title: str, found: Sequence[tuple[str, ...]]) -> str:
    """Return a table in markdown."""
    lines = [f"## {title}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, found)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def span(interval: tuple[float, float] | None, form: str = "") -> str:
    """Return an interval as people read it."""
    return (
        "n/a" if interval is None else " – ".join(format(end, form) if form else written(end, "us") for end in interval)
    )
