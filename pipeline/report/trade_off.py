"""The figure on what a runner costs in accuracy for its speed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.artifacts.parity import JudgedRunner
from pipeline.artifacts.results import Cell
from pipeline.report.figures import COLOURS, Figure, Panel, base, by_name, legend_height, named_rows, panel, ruled
from pipeline.report.run import PASS, Run
from pipeline.tables.table import VERDICT, Column, Table, with_interval
from pipeline.tables.table import Cell as TableCell
from pipeline.tables.traced import Traced

COLUMNS = (
    *(Column("runner"), Column("batch", "count"), Column("p50, µs", "us")),
    *(Column("accuracy lost, points (95 %)", "points"), Column("verdict", VERDICT), Column("place")),
)
LOST = alt.Y("drop:Q", title="accuracy lost, percentage points")


class Point(NamedTuple):
    """A runner: its median in µs, and the accuracy it lost in percentage points, with its interval.

    `place` is "Pareto set", "dominated", "does not pass" or "original".
    """

    name: str
    p50: float
    drop: float
    low: float
    high: float
    place: str = ""


class Untimed(NamedTuple):
    """A runner that was judged and not timed."""

    name: str
    drop: float
    low: float
    high: float


def trade_off(run: Run) -> Figure:
    """Draw accuracy lost against latency for every runner: the Pareto set, the budget, and what was not timed."""
    budget = run.parity.plain.accuracy_budget_pp
    panels: list[Panel] = []
    rows: list[list[TableCell]] = []
    for batch in run.batches():
        timed = list(_timed(run, batch))
        original = fastest(cell for cell in _exact(run, batch))
        points = placed([_point(cell.plain, judged.plain) for cell, judged in timed])
        for (cell, judged), point in zip(timed, points, strict=True):
            rows.append([cell.runner.name, cell.batch, cell.timing.p50_us, *_lost(judged), point.place])
        if original is not None:
            rows.append([original.runner.name, original.batch, original.timing.p50_us, "", "", "original"])
            points.append(Point(original.plain.runner.name, _p50(original.plain), 0.0, 0.0, 0.0, "original"))
        if points:
            height = 230 + legend_height([point.name for point in points])
            panels.append(panel(f"Batch {batch}", _chart(points, budget), len(points), height))
    untimed = list(_untimed(run))
    rows += [[judged.runner.name, "", "not timed", *_lost(judged), ""] for judged in untimed]
    if untimed:
        title = "Accuracy alone: not timed on this machine"
        panels.append(panel(title, _untimed_chart(untimed, budget), len(untimed), 70 + 22 * len(untimed)))
    return Figure(
        "trade-off",
        "Accuracy against latency",
        "Each runner, host array to host array, with the accuracy that this very runner lost: left is "
        "faster, down is more accurate, vertical lines are 95 % intervals. Filled marks, joined by a line, are the "
        "Pareto set: nothing that passes is both faster and more accurate. The dashed line is the budget, "
        f"{budget:g} points. What this machine has no arithmetic for, or no GPU to run, has an accuracy and no "
        "latency.",
        panels,
        [Table("Accuracy against latency", COLUMNS, rows)],
        "" if panels else "No runner was compared with the original model.",
    )


def _timed(run: Run, batch: int) -> Iterator[tuple[Traced[Cell], Traced[JudgedRunner]]]:
    """Yield the cells of exported runners that have a median, each with how its own runner was judged."""
    for cell in run.cells(batch=batch, mode="end_to_end", repeats=False):
        judged = run.judged(cell.plain.runner)
        timing = cell.plain.timing
        if cell.plain.runner.role != "exported" or timing is None or timing.p50_us is None:
            continue
        if judged is not None and judged.plain.total is not None:
            yield cell, judged


def _exact(run: Run, batch: int) -> Iterator[Traced[Cell]]:
    cells = run.cells(batch=batch, mode="end_to_end", repeats=False)
    return (cell for cell in cells if cell.plain.runner.role == "original")


def fastest(cells: Iterable[Traced[Cell]]) -> Traced[Cell] | None:
    """Return the cell of the least p50."""
    timed = (cell for cell in cells if cell.plain.timing and cell.plain.timing.p50_us is not None)
    return min(timed, key=lambda cell: _p50(cell.plain), default=None)


def _untimed(run: Run) -> Iterator[Traced[JudgedRunner]]:
    timed = [cell.plain.runner for cell in run.cells(mode="end_to_end")]
    for judged in run.compared():
        if judged.plain.runner.role == "exported" and judged.plain.runner not in timed:
            yield judged


def _p50(cell: Cell) -> float:
    assert cell.timing is not None
    assert cell.timing.p50_us is not None
    return cell.timing.p50_us


def _lost(judged: Traced[JudgedRunner]) -> list[TableCell]:
    total = judged.total
    return [with_interval(total.accuracy_drop_pp, total.accuracy_drop_ci95_pp, "points"), judged.verdict]


def _point(cell: Cell, judged: JudgedRunner) -> Point:
    assert judged.total is not None
    place = "" if judged.verdict == PASS else "does not pass"
    total = judged.total
    return Point(cell.runner.name, _p50(cell), total.accuracy_drop_pp, *total.accuracy_drop_ci95_pp, place)


def placed(points: Sequence[Point]) -> list[Point]:
    """Return the points with their place: whether something that passes dominates it in `p50` or `drop`."""
    passing = [point for point in points if not point.place]

    def dominates(one: Point, other: Point) -> bool:
        no_worse = one.p50 <= other.p50 and one.drop <= other.drop
        return no_worse and (one.p50 < other.p50 or one.drop < other.drop)

    def place(point: Point) -> str:
        return "dominated" if any(dominates(other, point) for other in passing) else "Pareto set"

    return [point._replace(place=point.place or place(point)) for point in points]


def _chart(points: Sequence[Point], budget: float) -> Any:
    x = alt.X("p50:Q", title="p50 latency, µs (log)", scale=alt.Scale(type="log", padding=16, nice=False))
    whisker = base(points).mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
    best = [point for point in points if point.place == "Pareto set"]
    others = [point for point in points if point.place != "Pareto set"]
    frontier = base(best).mark_line(color="var(--quiet)").encode(x=x, y=LOST)
    names = by_name("name", [point.name for point in points])
    filled = base(best).mark_point(filled=True, size=110, opacity=1).encode(x=x, y=LOST, **names)
    hollow = base(others).mark_point(size=90, opacity=1, strokeWidth=2).encode(x=x, y=LOST, **names)
    lines = ruled(0, vertical=False, dash=False), ruled(budget, vertical=False)
    return alt.layer(*lines, whisker, frontier, hollow, filled)


def _untimed_chart(untimed: Sequence[Traced[JudgedRunner]], budget: float) -> Any:
    points = []
    for judged in untimed:
        total = judged.plain.total
        assert total is not None
        points.append(Untimed(judged.plain.runner.name, total.accuracy_drop_pp, *total.accuracy_drop_ci95_pp))
    y = named_rows([point.name for point in points], sort=None)
    x = alt.X("drop:Q", title="accuracy lost, percentage points")
    whisker = base(points).mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q")
    dot = base(points).mark_point(filled=True, size=90, color=COLOURS[0], opacity=1).encode(y=y, x=x)
    return alt.layer(ruled(0, vertical=True, dash=False), ruled(budget, vertical=True), whisker, dot)
