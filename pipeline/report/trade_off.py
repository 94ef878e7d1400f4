"""The figure on what a runner costs in accuracy for its speed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.artifacts.parity import Comparison, JudgedOutput, JudgedRunner
from pipeline.artifacts.results import Cell
from pipeline.report.accuracy import axis, lost_what
from pipeline.report.figures import COLOURS, Figure, Panel, base, by_name, legend_height, named_rows, panel, ruled
from pipeline.report.run import PASS, Run
from pipeline.tables.judged import budgets, losses, worsening
from pipeline.tables.table import VERDICT, Column, Table
from pipeline.tables.table import Cell as TableCell
from pipeline.tables.traced import Traced


class Axis(NamedTuple):
    """What losses are drawn in: the unit of the only output; of several, how many budgets the gravest one loses."""

    title: str
    budget: float

    @classmethod
    def of(cls, outputs: Sequence[JudgedOutput]) -> "Axis":
        """Return the axis for these outputs."""
        if len(outputs) == 1:
            return cls(axis(outputs[0]), outputs[0].budget)
        return cls("loss of the output that loses most, in budgets", 1.0)


class Lost(NamedTuple):
    """What a runner lost, with its interval, as it is drawn."""

    drop: float
    low: float
    high: float

    @classmethod
    def of(cls, total: Comparison) -> "Lost | None":
        """Return what was lost in all; None where it is no number."""
        found = []
        for one in total.outputs:
            if one.loss is None:
                return None
            scale = 1.0 if len(total.outputs) == 1 else one.budget or 1.0
            found.append(cls(*(value / scale for value in (one.loss, *(one.loss_ci95 or (one.loss, one.loss))))))
        return max(found)


class Point(NamedTuple):
    """A runner: its median in µs, and what it lost, with its interval.

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
    outputs = run.parity.plain.outputs
    drawn = Axis.of(outputs)
    panels: list[Panel] = []
    rows: list[list[TableCell]] = []
    for batch in run.batches():
        timed = list(_timed(run, batch))
        original = fastest(cell for cell in _exact(run, batch))
        points = placed([_point(cell.plain, judged.plain, lost) for cell, judged, lost in timed])
        for (cell, judged, _), point in zip(timed, points, strict=True):
            rows.append([cell.runner.name, cell.batch, cell.timing.p50_us, *_lost(judged), point.place])
        if original is not None:
            rows.append([original.runner.name, original.batch, original.timing.p50_us, "", "", "original"])
            points.append(Point(original.plain.runner.name, _p50(original.plain), 0.0, 0.0, 0.0, "original"))
        if points:
            height = 230 + legend_height([point.name for point in points])
            panels.append(panel(f"Batch {batch}", _chart(points, drawn), len(points), height))
    untimed = list(_untimed(run))
    rows += [[judged.runner.name, "", "not timed", *_lost(judged), ""] for judged, _ in untimed]
    if untimed:
        title = "Accuracy alone: not timed on this machine"
        points_alone = [Untimed(judged.plain.runner.name, *lost) for judged, lost in untimed]
        panels.append(panel(title, _untimed_chart(points_alone, drawn), len(untimed), 70 + 22 * len(untimed)))
    columns = [Column("runner"), Column("batch", "count"), Column("p50, µs", "us")]
    columns += [Column(f"{lost_what(outputs)}, {worsening(outputs)} (95 %)", "points")]
    columns += [Column("verdict", VERDICT), Column("place")]
    return Figure(
        "trade-off",
        "Accuracy against latency",
        f"Each runner, host array to host array, with the {lost_what(outputs)} that this very runner lost: left is "
        "faster, down is more accurate, vertical lines are 95 % intervals. Filled marks, joined by a line, are the "
        "Pareto set: nothing that passes is both faster and more accurate. The dashed line is the budget, "
        f"{budgets(outputs)}. What this machine has no arithmetic for, or no GPU to run, has an accuracy and no "
        "latency.",
        panels,
        [Table("Accuracy against latency", columns, rows)],
        "" if panels else "No runner was compared with the original model.",
    )


def _timed(run: Run, batch: int) -> Iterator[tuple[Traced[Cell], Traced[JudgedRunner], Lost]]:
    """Yield the cells of exported runners that have a median, each with how its own runner was judged."""
    for cell in run.cells(batch=batch, mode="end_to_end", repeats=False):
        judged = run.judged(cell.plain.runner)
        timing = cell.plain.timing
        if cell.plain.runner.role != "exported" or timing is None or timing.p50_us is None:
            continue
        if judged is not None and judged.plain.total is not None and (lost := Lost.of(judged.plain.total)):
            yield cell, judged, lost


def _exact(run: Run, batch: int) -> Iterator[Traced[Cell]]:
    cells = run.cells(batch=batch, mode="end_to_end", repeats=False)
    return (cell for cell in cells if cell.plain.runner.role == "original")


def fastest(cells: Iterable[Traced[Cell]]) -> Traced[Cell] | None:
    """Return the cell of the least p50."""
    timed = (cell for cell in cells if cell.plain.timing and cell.plain.timing.p50_us is not None)
    return min(timed, key=lambda cell: _p50(cell.plain), default=None)


def _untimed(run: Run) -> Iterator[tuple[Traced[JudgedRunner], Lost]]:
    timed = [cell.plain.runner for cell in run.cells(mode="end_to_end")]
    for judged in run.compared():
        assert judged.plain.total is not None
        lost = Lost.of(judged.plain.total)
        if judged.plain.runner.role == "exported" and judged.plain.runner not in timed and lost:
            yield judged, lost


def _p50(cell: Cell) -> float:
    assert cell.timing is not None
    assert cell.timing.p50_us is not None
    return cell.timing.p50_us


def _lost(judged: Traced[JudgedRunner]) -> list[TableCell]:
    return [losses(judged.total), judged.verdict]


def _point(cell: Cell, judged: JudgedRunner, lost: Lost) -> Point:
    return Point(cell.runner.name, _p50(cell), *lost, "" if judged.verdict == PASS else "does not pass")


def placed(points: Sequence[Point]) -> list[Point]:
    """Return the points with their place: whether something that passes dominates it in `p50` or `drop`."""
    passing = [point for point in points if not point.place]

    def dominates(one: Point, other: Point) -> bool:
        no_worse = one.p50 <= other.p50 and one.drop <= other.drop
        return no_worse and (one.p50 < other.p50 or one.drop < other.drop)

    def place(point: Point) -> str:
        return "dominated" if any(dominates(other, point) for other in passing) else "Pareto set"

    return [point._replace(place=point.place or place(point)) for point in points]


def _chart(points: Sequence[Point], drawn: Axis) -> Any:
    y = alt.Y("drop:Q", title=drawn.title)
    x = alt.X("p50:Q", title="p50 latency, µs (log)", scale=alt.Scale(type="log", padding=16, nice=False))
    whisker = base(points).mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
    best = [point for point in points if point.place == "Pareto set"]
    others = [point for point in points if point.place != "Pareto set"]
    frontier = base(best).mark_line(color="var(--quiet)").encode(x=x, y=y)
    names = by_name("name", [point.name for point in points])
    filled = base(best).mark_point(filled=True, size=110, opacity=1).encode(x=x, y=y, **names)
    hollow = base(others).mark_point(size=90, opacity=1, strokeWidth=2).encode(x=x, y=y, **names)
    lines = ruled(0, vertical=False, dash=False), ruled(drawn.budget, vertical=False)
    return alt.layer(*lines, whisker, frontier, hollow, filled)


def _untimed_chart(points: Sequence[Untimed], drawn: Axis) -> Any:
    y = named_rows([point.name for point in points], sort=None)
    x = alt.X("drop:Q", title=drawn.title)
    whisker = base(points).mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q")
    dot = base(points).mark_point(filled=True, size=90, color=COLOURS[0], opacity=1).encode(y=y, x=x)
    return alt.layer(ruled(0, vertical=True, dash=False), ruled(drawn.budget, vertical=True), whisker, dot)
