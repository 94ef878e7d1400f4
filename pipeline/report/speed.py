"""The figures on speed: throughput, the machine's limit, and several runs beside each other."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.artifacts.results import Cell
from pipeline.report.figures import Figure, Panel, base, by_name, legend_height, named_rows, panel, ruled
from pipeline.report.run import Run
from pipeline.tables import Column, Table
from pipeline.tables.speed import MODES
from pipeline.tables.table import Cell as TableCell

NOT_TIMED = "Nothing was timed: the model failed validation."
NO_CELL = "Nothing could be timed; see what did not run, and why."

ITEMS = "Throughput against batch size"


class Rate(NamedTuple):
    """Items per second at a batch size."""

    name: str
    batch: int
    rate: float


class Share(NamedTuple):
    """How near a runner comes to the machine's limit in percent, and which limit it is."""

    name: str
    share: float
    limit: str


class Median(NamedTuple):
    """A runner's median in µs in one of several runs."""

    name: str
    p50: float
    run: str


def throughput(run: Run) -> Figure:
    """Draw items per second against the batch size, a panel for each backend beside the fastest original."""
    if run.results is None:
        return Figure("throughput", ITEMS, empty=NOT_TIMED)
    cells = list(run.cells(mode="end_to_end", repeats=False))
    if not cells:
        return Figure("throughput", ITEMS, empty=NO_CELL)
    rows = [[cell.runner.name, cell.batch, cell.timing.items_per_s] for cell in cells]
    plain = [cell.plain for cell in cells]
    everything = [_rate(cell).rate for cell in plain]
    domain = (min(everything), max(everything))
    best: dict[int, Rate] = {}
    for cell in plain:
        if cell.runner.role == "original":
            best[cell.batch] = max(best.get(cell.batch, _rate(cell)), _rate(cell), key=lambda one: one.rate)
    panels = []
    originals = {cell.runner.backend for cell in plain if cell.runner.role == "original"}
    for backend in dict.fromkeys(cell.runner.backend for cell in plain):
        own = [_rate(cell, f"{backend} ") for cell in plain if cell.runner.backend == backend]
        others = [] if backend in originals else list(best.values())
        height = 240 + legend_height(list(dict.fromkeys(point.name for point in own)))
        panels.append(panel(backend, _rates_chart(own, others, run.batches(), domain), len(own), height))
    return Figure(
        "throughput",
        ITEMS,
        "Items per second, host array to host array; both axes are logarithmic, and the same in all panels. Higher is "
        "better. The dotted grey line is the fastest way to run the original model at each batch size.",
        panels,
        [Table(ITEMS, [Column("runner"), Column("batch", "count"), Column("items/s", "rate")], rows)],
    )


def _rate(cell: Cell, prefix: str = "") -> Rate:
    assert cell.timing is not None
    return Rate(cell.runner.name.removeprefix(prefix), cell.batch, cell.timing.items_per_s)


def _rates_chart(own: Sequence[Rate], best: Sequence[Rate], batches: Sequence[int], domain: tuple[float, float]) -> Any:
    x = alt.X("batch:Q", title="batch size (log)", scale=alt.Scale(type="log", nice=False, padding=12))
    x = x.axis(values=batches, format="d")
    y = alt.Y("rate:Q", title="items/s (log)")
    y = y.scale(alt.Scale(type="log", nice=False, padding=12, domain=list(domain)))
    names = list(dict.fromkeys(point.name for point in own))
    line = base(own).mark_line(strokeWidth=2).encode(x=x, y=y, color=by_name("name", names)["color"])
    dots = base(own).mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, **by_name("name", names))
    if not best:
        return alt.layer(line, dots)
    dotted = base(best).mark_line(strokeDash=[3, 3], color="var(--quiet)").encode(x=x, y=y)
    return alt.layer(dotted, line, dots)


def limits(run: Run) -> Figure:
    """Draw how near each cell comes to what the machine could do at best, and what bounds it."""
    title = "Share of the machine's limit"
    if run.results is None:
        return Figure("limits", title, empty=NOT_TIMED)
    panels: list[Panel] = []
    rows: list[list[TableCell]] = []
    kinds = list(dict.fromkeys(cell.plain.limit.limit for cell in run.cells() if cell.plain.limit))
    for mode, meaning in MODES.items():
        for batch in run.batches():
            points = []
            for cell in run.cells(batch=batch, mode=mode, repeats=False):
                limit = cell.plain.limit
                if limit is None:
                    continue
                rows.append([cell.runner.name, cell.batch, meaning, limit.limit])
                rows[-1] += [cell.limit.limit_us, cell.timing.p50_us, cell.limit.share]
                points.append(Share(cell.plain.runner.name, 100 * limit.share, limit.limit))
            if points:
                chart = _shares_chart(points, kinds)
                panels.append(panel(f"Batch {batch}, {meaning}", chart, len(points), 100 + 20 * len(points)))
    columns = [Column("runner"), Column("batch", "count"), Column("mode"), Column("bound by")]
    columns += [Column("at best, µs", "us"), Column("p50, µs", "us"), Column("share", "share")]
    return Figure(
        "limits",
        title,
        "How near each runner comes to the least time that this machine could take for the model's arithmetic and "
        "bytes, by the best it was measured to do in the same run: in computing, in reading memory, in copying to a "
        "GPU and back (pcie), or in starting work there (launch). The dashed line is the limit itself; beyond it "
        "the weights stay in the processor's cache. A mark far to the left has room for improvement, or spends its "
        "time on something other than computing.",
        panels,
        [Table(title, columns, rows)],
        "" if panels else "No limit of this machine is known.",
    )


def _shares_chart(points: Sequence[Share], kinds: Sequence[str]) -> Any:
    order = alt.EncodingSortField("share", op="max", order="descending")
    y = named_rows([point.name for point in points], sort=order)
    x = alt.X("share:Q", title="share of the limit, % (log)", scale=alt.Scale(type="log", nice=False))
    dot = base(points).mark_point(filled=True, size=80, opacity=1).encode(y=y, x=x)
    return alt.layer(ruled(100, vertical=True), dot.encode(**by_name("limit", kinds)))


def side_by_side(runs: Iterable[Run]) -> Figure:
    """Draw the medians of several runs beside each other."""
    runs = list(runs)
    panels: list[Panel] = []
    rows: list[list[TableCell]] = []
    for mode, meaning in MODES.items():
        for batch in dict.fromkeys(batch for run in runs for batch in run.batches()):
            points = []
            for run in runs:
                for cell in run.cells(batch=batch, mode=mode, repeats=False):
                    timing, name = cell.plain.timing, cell.plain.runner.name
                    if timing is None or timing.p50_us is None:
                        continue
                    points.append(Median(name, timing.p50_us, run.name))
                    device = run.last.machine.label(cell.plain.device)
                    rows.append([name, cell.batch, meaning, run.name, device])
                    rows[-1] += [cell.timing.p50_us, cell.timing.items_per_s]
            if points:
                chart, height = _medians_chart(points, [run.name for run in runs])
                panels.append(panel(f"Batch {batch}, {meaning}", chart, len(points), height))
    columns = [Column("runner"), Column("batch", "count"), Column("mode"), Column("run"), Column("device")]
    columns += [Column("p50, µs", "us"), Column("items/s", "rate")]
    return Figure(
        "runs",
        "Medians of the runs",
        "Each mark is one runner in one run; left is faster, on a log axis. Runs on different machines, or on "
        "different data, get no verdict.",
        panels,
        [Table("Medians of the runs", columns, rows)],
        "" if panels else NO_CELL,
    )


def _medians_chart(points: Sequence[Median], names: Sequence[str]) -> tuple[Any, int]:
    """Return the chart, and its height in pixels."""
    runners = {point.name for point in points}
    y = named_rows([point.name for point in points], sort=alt.EncodingSortField("p50", op="min"))
    x = alt.X("p50:Q", title="p50 latency, µs (log)", scale=alt.Scale(type="log", nice=False, padding=8))
    dot = base(points).mark_point(filled=True, size=80, opacity=0.85).encode(y=y, x=x)
    dot = dot.encode(yOffset=alt.YOffset("run:N", sort=list(names)), **by_name("run", names))
    return dot, 90 + 14 * (len(runners) * len(names) + len(names))
