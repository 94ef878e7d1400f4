"""Tables on speed: latencies, speed-ups over the original model, and the noise of both."""

from typing import Any

from pipeline.artifacts.results import BenchmarkResults, Mode
from pipeline.tables.table import VERDICT, Cell, Column, Mixed, Number, Table, with_interval
from pipeline.tables.traced import Seen, plain

MODES: dict[Mode, str] = {"end_to_end": "host array to host array", "compute": "inputs resident on the GPU"}
"""What is timed in each mode."""

NAMES: dict[str, str] = {"end_to_end": "end to end", "compute": "compute only"}
"""How a mode is called in a table."""


def called(cell: Any) -> str:
    """Return how a cell is called everywhere, traced or not: by its runner, and whether it is that one's repeat."""
    return f"{cell.runner.name}{' (A/A repeat)' if plain(cell.repeat) else ''}"


def latency(results: Seen[BenchmarkResults], mode: Mode) -> Table:
    """Return the cells of one mode that were timed; without rows where there are none."""
    strongest: dict[tuple[str, int, str], Any] = {}
    for row in results.speedups:  # the rows of a runner begin with its strongest baseline
        strongest.setdefault((plain(row.runner), plain(row.batch), plain(row.mode)), row)
    rows: list[list[Cell]] = []
    for cell in results.cells:
        timing, limit = cell.timing, cell.limit
        if plain(cell.mode) != mode or not timing:
            continue
        harness = plain(cell.runner.role) == "harness"
        over = strongest.get((plain(cell.runner.name), plain(cell.batch), mode))
        rows.append(
            [
                cell.batch,
                called(cell),
                plain(results).environment.machine.label(plain(cell.device)),
                timing.samples,
                timing.p50_us,
                _range(timing.p50_ci95_us),
                *(timing.p90_us, timing.p95_us, timing.p99_us),
                "" if harness else timing.items_per_s,
                Mixed((Number(limit.share, "share"), f" of {limit.limit}")) if limit else "",
                _over(over) if over and not plain(cell.repeat) else "",
            ]
        )
    columns = [
        *(Column("batch", "count"), Column("runner"), Column("device", detail=True)),
        *(Column("calls", "count", detail=True), Column("p50, µs", "us"), Column("95 %", "us")),
        *(Column("p90", "us", detail=True), Column("p95", "us", detail=True), Column("p99", "us")),
        *(Column("items/s", "rate"), Column("limit"), Column("over the strongest original")),
    ]
    return Table(f"Latency {NAMES[mode]}: {MODES[mode]}", columns, rows)


def speedups(results: Seen[BenchmarkResults]) -> Table:
    """Return every runner over every way to run the original model, the strongest of these first."""
    machine = plain(results).environment.machine
    rows: list[list[Cell]] = [
        [
            *(row.batch, NAMES[plain(row.mode)]),
            f"{row.runner} on {machine.label(plain(row.device))}",
            f"{row.over} on {machine.label(plain(row.over_device))}",
            with_interval(row.ratio, row.ratio_ci95, "ratio"),
            row.verdict,
        ]
        for row in results.speedups
    ]
    columns = [Column("batch", "count"), Column("mode"), Column("runner"), Column("over the original")]
    columns += [Column("times as fast (95 %)", "ratio"), Column("verdict", VERDICT)]
    return Table("Speed-up over the original model", columns, rows)


def noise(results: Seen[BenchmarkResults]) -> Table:
    """Return each runner that was timed a second time, in a process of its own: what differs is noise."""
    rows: list[list[Cell]] = [
        [
            *(row.batch, NAMES[plain(row.mode)], row.runner),
            with_interval(row.ratio, row.ratio_ci95, "near one"),
            row.floor,
        ]
        for row in results.noise_floor
    ]
    columns = [Column("batch", "count"), Column("mode"), Column("runner, against itself")]
    columns += [Column("times as fast (95 %)", "near one"), Column("noise, up to", "percent")]
    return Table("Noise: A/A repeats", columns, rows)


def _range(ends: Any) -> Cell:
    if not ends:
        return "n/a"
    low, high = ends
    return Mixed((Number(low, "us"), " – ", Number(high, "us")))


def _over(row: Any) -> Mixed:
    unless_clear = "" if plain(row.verdict) in ("faster", "slower") else f", {row.verdict}"
    return Mixed((Number(row.ratio, "ratio"), f" {row.over}{unless_clear}"))
