"""The figures on accuracy: what each hop loses, and what a precision costs for its speed."""

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from pipeline.report.figures import COLOURS, Column, Figure, base, by_name, named_rows, panel, ruled
from pipeline.report.run import PASS, Run, label
from pipeline.report.traced import Traced

VERDICTS = {
    "pass": ("var(--good)", "circle"),
    "inconclusive": ("var(--doubt)", "diamond"),
    "fail": ("var(--bad)", "cross"),
}
"""By which colour and shape each is drawn."""


def parity(run: Run) -> Figure:
    """Draw the accuracy that each hop loses, and what is lost in all, with intervals and the budget."""
    budget = run.parity["accuracy_budget_pp"]
    groups = (("Each hop", run.parity["hops"]), ("In all, against the original model", run.parity["totals"]))
    panels, rows = [], []
    for title, found in groups:
        points = []
        for row in found:
            plain = row.plain
            name = plain["candidate"] + (" (emulated)" if plain["emulated"] else "")
            compared = plain["samples"] > 0
            low, high = row["accuracy_drop_ci95_pp"] if compared else (None, None)
            rows.append(
                [
                    f"{plain['reference']} → {name}",
                    f"{plain['backend']} on {plain['device']}" if compared else "",
                    *(row[key] for key in ("max_abs", "top1_agreement", "accuracy_reference", "accuracy_candidate")),
                    *(row["accuracy_drop_pp"], low, high, row["mcnemar_p"]),
                    plain["verdict"],
                    plain["reason"],
                ]
            )
            if low is not None and high is not None:
                points.append(
                    {"name": name, "drop": plain["accuracy_drop_pp"], "low": low.plain, "high": high.plain}
                    | {"verdict": plain["verdict"]}
                )
        if points:
            y = named_rows([point["name"] for point in points], sort=None)
            x = alt.X("drop:Q", title="accuracy lost, percentage points")
            known = [verdict for verdict in VERDICTS if verdict in {point["verdict"] for point in points}]
            colours = alt.Scale(domain=known, range=[VERDICTS[verdict][0] for verdict in known])
            shapes = alt.Scale(domain=known, range=[VERDICTS[verdict][1] for verdict in known])
            whisker = base(points).mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q")
            dot = (
                base(points)
                .mark_point(filled=True, size=80, opacity=1)
                .encode(
                    y=y,
                    x=x,
                    color=alt.Color("verdict:N", scale=colours, title=None),
                    shape=alt.Shape("verdict:N", scale=shapes, title=None),
                )
            )
            zero, limit = ruled(0, vertical=True, dash=False), ruled(budget.plain, vertical=True)
            height = 90 + 22 * len(points)
            panels.append(panel(title, alt.layer(zero, limit, whisker, dot), len(points), height))
    return Figure(
        "parity",
        "Where accuracy goes, hop by hop",
        "A dot is the accuracy that a step lost on the test images, its line the 95 % interval; left of 0 it won some. "
        f"The dashed line is the budget, {budget.plain:g} points: a step passes where its whole line stays left of it, "
        "or where every output is within the precision's tolerance.",
        panels,
        [
            Column("comparison"),
            Column("run by"),
            Column("max |Δ|", "difference"),
            Column("top-1 agreement", "fraction"),
            Column("accuracy before", "fraction"),
            Column("accuracy after", "fraction"),
            Column("lost, points", "points"),
            Column("from", "points"),
            Column("to", "points"),
            Column("McNemar p"),
            Column("verdict"),
            Column("why"),
        ],
        rows,
    )


def fastest(cells: Iterable[Traced]) -> Traced | None:
    """Return the cell of the least p50."""
    timed = (cell for cell in cells if cell.plain["p50_us"] is not None)
    return min(timed, key=lambda cell: float(cell.plain["p50_us"]), default=None)


def trade_off(run: Run) -> Figure:
    """Draw accuracy lost against latency for every precision: the Pareto set, the budget, and what was not timed."""
    budget = run.parity.plain["accuracy_budget_pp"]
    panels, rows, timed = [], [], set()
    for batch in run.batches():
        points = []
        cells = list(run.cells(batch=batch, mode="end_to_end", twin=False))
        exported = [cell for cell in cells if cell.plain["backend"] != "tensorflow"]
        for sidecar in run.sidecars:
            precision = sidecar.plain["precision"]
            cell = fastest(cell for cell in exported if cell.plain["precision"] == precision)
            judgement = cell and run.judgement(cell.plain["backend"], precision)
            if cell is not None and judgement is not None:
                timed.add(precision)
                rows.append([precision, cell["batch"], label(cell.plain), cell["p50_us"], *_lost(judgement), ""])
                passes = judgement.plain["verdict"] == PASS
                points.append(_point(precision, judgement) | {"p50": cell.plain["p50_us"], "passes": passes})
        best = pareto([point for point in points if point["passes"]])
        for point, row in zip(points, rows[len(rows) - len(points) :], strict=True):
            point["best"] = point in best
            row[-1] = "Pareto set" if point["best"] else "beaten" if point["passes"] else "does not pass"
        original = fastest(cell for cell in cells if cell.plain["backend"] == "tensorflow")
        if original is not None:
            rows.append(["original", original["batch"], label(original.plain), original["p50_us"], 0.0, *[""] * 4])
            point = {"precision": "original", "drop": 0.0, "low": 0.0, "high": 0.0, "best": False}
            points.append(point | {"p50": original.plain["p50_us"]})
        if points:
            panels.append(panel(f"Batch {batch}", _trade_off_chart(points, budget), len(points), 290))
    untimed = []
    for precision, judgement in run.accuracies().items():
        if precision not in timed:
            rows.append([precision, "", "not timed here", "", *_lost(judgement), ""])
            untimed.append(_point(precision, judgement))
    if untimed:
        title = "Accuracy alone: not timed on this machine"
        panels.append(panel(title, _untimed_chart(untimed, budget), len(untimed), 290))
    return Figure(
        "trade-off",
        "Accuracy against latency",
        "Each precision at its fastest, host array to host array: left is faster, down is more accurate, upright lines "
        "are 95 % intervals. Filled marks, joined by a line, are the Pareto set: nothing that passes is both faster "
        f"and more accurate. The dashed line is the budget, {budget:g} points. A precision that this machine has no "
        "arithmetic for, or no GPU to run, has an accuracy and no latency.",
        panels,
        [
            Column("precision"),
            Column("batch", "count"),
            Column("run by"),
            Column("p50, µs", "us"),
            Column("accuracy lost, points", "points"),
            Column("from", "points"),
            Column("to", "points"),
            Column("verdict"),
            Column("place"),
        ],
        rows,
        "" if panels else "No precision was compared.",
    )


def _lost(judgement: Traced) -> list[Traced]:
    low, high = judgement["accuracy_drop_ci95_pp"]
    return [judgement["accuracy_drop_pp"], low, high, judgement["verdict"]]


def _point(precision: str, judgement: Traced) -> dict[str, Any]:
    drop, low, high, _ = (value.plain for value in _lost(judgement))
    return {"precision": precision, "drop": drop, "low": low, "high": high}


LOST = alt.Y("drop:Q", title="accuracy lost, percentage points")


def _trade_off_chart(points: list[dict[str, Any]], budget: float) -> Any:
    x = alt.X("p50:Q", title="p50 latency, µs (log)", scale=alt.Scale(type="log", padding=16, nice=False))
    whisker = base(points).mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
    best = [point for point in points if point["best"]]
    others = [point for point in points if not point["best"]]
    frontier = base(best).mark_line(color="var(--quiet)").encode(x=x, y=LOST)
    names = by_name("precision", [point["precision"] for point in points])
    filled = base(best).mark_point(filled=True, size=110, opacity=1).encode(x=x, y=LOST, **names)
    hollow = base(others).mark_point(size=90, opacity=1, strokeWidth=2).encode(x=x, y=LOST, **names)
    lines = ruled(0, vertical=False, dash=False), ruled(budget, vertical=False)
    return alt.layer(*lines, whisker, frontier, hollow, filled)


def _untimed_chart(points: list[dict[str, Any]], budget: float) -> Any:
    x = alt.X("precision:N", sort=None, title="precision", axis=alt.Axis(labelAngle=0))
    whisker = base(points).mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
    dot = base(points).mark_point(filled=True, size=90, color=COLOURS[0], opacity=1).encode(x=x, y=LOST)
    return alt.layer(ruled(0, vertical=False, dash=False), ruled(budget, vertical=False), whisker, dot)


def pareto(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points that no other beats in `p50` or `drop` without losing in the other."""

    def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
        no_worse = one["p50"] <= other["p50"] and one["drop"] <= other["drop"]
        return bool(no_worse and (one["p50"] < other["p50"] or one["drop"] < other["drop"]))

    return [point for point in points if not any(beats(other, point) for other in points)]
