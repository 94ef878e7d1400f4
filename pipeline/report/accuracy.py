"""The figures on accuracy: what each hop loses, and what a precision costs for its speed."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from pipeline.report.figures import COLOURS, Column, Figure, base, named_rows, panel, ruled
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


def fastest(run: Run, precision: str, batch: int) -> Traced | None:
    """Return the fastest timed cell of a precision, host to host, of those that run the exported model."""
    cells = [
        cell
        for cell in run.cells(precision=precision, batch=batch, mode="end_to_end", twin=False)
        if cell.plain["backend"] != "tensorflow" and cell.plain["p50_us"] is not None
    ]
    return min(cells, key=lambda cell: float(cell.plain["p50_us"]), default=None)


def trade_off(run: Run) -> Figure:
    """Draw accuracy lost against latency for every precision: the Pareto set, the budget, and what was not timed."""
    budget = run.parity["accuracy_budget_pp"]
    names = [sidecar.plain["precision"] for sidecar in run.sidecars]
    panels, rows = [], []
    timed: set[str] = set()
    for batch in run.batches():
        points = []
        for precision in names:
            cell = fastest(run, precision, batch)
            judgement = cell and run.judgement(cell.plain["backend"], precision)
            if cell is None or judgement is None:
                continue
            timed.add(precision)
            low, high = judgement["accuracy_drop_ci95_pp"]
            points.append(
                {
                    "precision": precision,
                    "p50": cell.plain["p50_us"],
                    "drop": judgement.plain["accuracy_drop_pp"],
                    "low": low.plain,
                    "high": high.plain,
                    "passes": judgement.plain["verdict"] == PASS,
                }
            )
            rows.append(
                [
                    *(precision, cell["batch"], label(cell.plain), cell["p50_us"]),
                    *(judgement["accuracy_drop_pp"], low, high, judgement.plain["verdict"], ""),
                ]
            )
        best = pareto([point for point in points if point["passes"]])
        for point, row in zip(points, rows[len(rows) - len(points) :], strict=True):
            point["set"] = "Pareto set" if point in best else "beaten" if point["passes"] else "does not pass"
            row[-1] = point["set"]
        originals = list(run.cells(backend="tensorflow", batch=batch, mode="end_to_end"))
        original = min(originals, key=lambda cell: float(cell.plain["p50_us"] or "inf"), default=None)
        if original is not None and original.plain["p50_us"] is not None:
            points.append(
                {"precision": "original", "p50": original.plain["p50_us"], "drop": 0.0, "low": 0.0, "high": 0.0}
                | {"set": "original model"}
            )
            rows.append(["original", original["batch"], label(original.plain), original["p50_us"], 0.0, "", "", "", ""])
        if points:
            panels.append(panel(f"Batch {batch}", _trade_off_chart(points, budget.plain), len(points), 270))
    untimed = []
    for sidecar in run.sidecars:
        precision = sidecar.plain["precision"]
        judgement = run.judgement("tensorrt", precision) or run.judgement("onnxruntime", precision)
        if precision in timed or judgement is None:
            continue
        low, high = judgement["accuracy_drop_ci95_pp"]
        untimed.append(
            {"precision": precision, "drop": judgement.plain["accuracy_drop_pp"], "low": low.plain, "high": high.plain}
        )
        rows.append(
            [
                *(precision, "", "not timed here", ""),
                *(judgement["accuracy_drop_pp"], low, high, judgement.plain["verdict"], ""),
            ]
        )
    if untimed:
        x = alt.X("precision:N", sort=None, title="precision", axis=alt.Axis(labelAngle=0))
        whisker = base(untimed).mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
        y = alt.Y("drop:Q", title="accuracy lost, percentage points")
        dot = base(untimed).mark_point(filled=True, size=80, color=COLOURS[0], opacity=1).encode(x=x, y=y)
        chart = alt.layer(ruled(0, vertical=False, dash=False), ruled(budget.plain, vertical=False), whisker, dot)
        panels.append(panel("Accuracy alone: not timed on this machine", chart, len(untimed), 270))
    return Figure(
        "trade-off",
        "Accuracy against latency",
        "Each precision at its fastest, host array to host array: left is faster, down is more accurate, lines are "
        "95 % intervals. Diamonds are the Pareto set: nothing that passes is both faster and more accurate. "
        f"The dashed line is the budget, {budget.plain:g} points. "
        "A precision that this machine has no arithmetic for, or no GPU to run, has an accuracy and no latency.",
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


def _trade_off_chart(points: list[dict[str, Any]], budget: float) -> Any:
    places = ["original model", "Pareto set", "beaten", "does not pass"]
    places = [place for place in places if place in {point["set"] for point in points}]
    colours = {"original model": "var(--quiet)", "Pareto set": COLOURS[0], "beaten": COLOURS[4]}
    shapes = {"original model": "square", "Pareto set": "diamond", "beaten": "circle"}
    x = alt.X("p50:Q", title="p50 latency, µs (log)", scale=alt.Scale(type="log", padding=34, nice=False))
    y = alt.Y("drop:Q", title="accuracy lost, percentage points")
    whisker = base(points).mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
    dot = (
        base(points)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "set:N",
                scale=alt.Scale(domain=places, range=[colours.get(place, "var(--bad)") for place in places]),
                title=None,
            ),
            shape=alt.Shape(
                "set:N", scale=alt.Scale(domain=places, range=[shapes.get(place, "cross") for place in places])
            ),
        )
    )
    precisions = [point for point in points if point["set"] != "original model"]
    text = base(precisions).mark_text(align="left", dx=7, dy=-9).encode(x=x, y=y, text="precision:N")
    return alt.layer(ruled(0, vertical=False, dash=False), ruled(budget, vertical=False), whisker, dot, text)


def pareto(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points that no other beats in `p50` or `drop` without losing in the other."""

    def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
        no_worse = one["p50"] <= other["p50"] and one["drop"] <= other["drop"]
        return bool(no_worse and (one["p50"] < other["p50"] or one["drop"] < other["drop"]))

    return [point for point in points if not any(beats(other, point) for other in points)]
