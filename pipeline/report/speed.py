"""The figures on speed: latencies, throughput, the machine's limit, and several runs beside each other."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np

from pipeline.measuring import harness, statistics
from pipeline.report.figures import COLOURS, Column, Figure, base, by_name, named_rows, panel, ruled
from pipeline.report.run import Run, label
from pipeline.report.traced import Traced

LEVELS = (0.01, 0.05, 0.10, 0.25, 0.40, 0.50, 0.60, 0.75, 0.90, 0.95, 0.99)
"""The percentiles by which a distribution is drawn."""

MODES = {"end_to_end": "host array to host array", "compute": "inputs resident on the GPU"}
NOT_TIMED = "Nothing was timed: the model failed validation."
NO_CELL = "Nothing could be timed; what did not run says why."


def distributions(run: Run) -> Figure:
    """Draw the latencies of all calls as density strips between percentiles, from the raw samples."""
    if run.results is None:
        return Figure("latency", "Latency of every call", "", empty=NOT_TIMED)
    panels, rows = [], []
    with np.load(run.root / "benchmark/samples.npz", allow_pickle=False) as samples:
        for mode, meaning in MODES.items():
            for batch in run.batches():
                strips, ticks = [], []
                for cell in run.cells(batch=batch, mode=mode):
                    found = _percentiles(samples, cell.plain)
                    name = label(cell.plain)
                    rows.append([name, cell["batch"], MODES[mode], cell["samples"], *found])
                    strips += [{"name": name} | strip for strip in _strips(found)]
                    ticks.append({"name": name, "p50": cell.plain["p50_us"] or cell.plain["mean_us"]})
                if ticks:
                    title = f"Batch {batch}, {meaning}"
                    panels.append(panel(title, _strip_chart(strips, ticks), len(ticks), 70 + 20 * len(ticks)))
    return Figure(
        "latency",
        "Latency of every call",
        "Each row is one way to run the model, the fastest first; left is faster, on a log axis. The darker a stretch, "
        "the more calls took that long; the tick is the median of the rounds' medians, which the other figures show, "
        "and percentiles are of all calls together. A long pale tail is time that some users wait. "
        "A row called (again) is its neighbour timed a second time: what differs between the two is noise. Percentiles "
        "that the number of calls cannot support are n/a; every sample is in benchmark/samples.npz.",
        panels,
        [Column("run by"), Column("batch", "count"), Column("mode"), Column("calls", "count")]
        + [Column(f"p{round(100 * level)}, µs", "us") for level in LEVELS],
        rows,
        "" if panels else NO_CELL,
    )


def _percentiles(samples: Any, cell: dict[str, Any]) -> list[Traced]:
    """Return the percentiles of all calls of a cell in µs, None where there are too few of them."""
    key = harness.key(**{name: cell[name] for name in ("backend", "variant", "precision", "twin", "batch", "mode")})
    ns = np.concatenate([samples[name] for name in samples.files if name.startswith(f"{key}/")])
    found = []
    for level in LEVELS:
        enough = len(ns) >= statistics.samples_needed(max(level, 1 - level))
        value = float(np.quantile(ns, level, method="inverted_cdf")) / 1e3 if enough else None
        found.append(Traced(value, "benchmark/samples.npz", f"/{key}/p{round(100 * level)}"))
    return found


def _strips(percentiles: Sequence[Traced]) -> list[dict[str, float]]:
    """Return the stretches between percentiles with how dense the calls lie there, over log time, 1 at the densest."""
    known = [(level, value.plain) for level, value in zip(LEVELS, percentiles, strict=True) if value.plain is not None]
    strips = []
    for (before, start), (after, end) in pairwise(known):
        width = max(np.log(end / start), 0.01)  # a clock's tick of 10 ns makes neighbouring percentiles equal
        strips.append({"start": start, "end": max(end, start * 1.01), "density": (after - before) / width})
    densest = max((strip["density"] for strip in strips), default=1.0)
    # Ink in proportion to the square root: a tail of a tenth of the density is still seen.
    return [strip | {"density": float(np.sqrt(strip["density"] / densest))} for strip in strips]


def _strip_chart(strips: list[dict[str, Any]], ticks: list[dict[str, Any]]) -> Any:
    order = [tick["name"] for tick in sorted(ticks, key=lambda tick: float(tick["p50"]))]
    y = named_rows(order, sort=order)
    scale = alt.Scale(type="log", nice=False, padding=4)
    band = (
        base(strips)
        .mark_bar(height={"band": 0.62}, color=COLOURS[0])
        .encode(
            y=y,
            x=alt.X("start:Q", title="latency of a call, µs (log)", scale=scale),
            x2="end:Q",
            opacity=alt.Opacity("density:Q", scale=alt.Scale(domain=[0, 1], range=[0.06, 0.95]), legend=None),
        )
    )
    tick = base(ticks).mark_tick(thickness=3, size=16, color="var(--ink)").encode(y=y, x="p50:Q")
    return alt.layer(band, tick)


def throughput(run: Run) -> Figure:
    """Draw images per second against the batch size, a panel for each backend beside the fastest original."""
    if run.results is None:
        return Figure("throughput", "Throughput against batch size", "", empty=NOT_TIMED)
    cells = list(run.cells(mode="end_to_end", twin=False))
    if not cells:
        return Figure("throughput", "Throughput against batch size", "", empty=NO_CELL)
    rows = [[label(cell.plain), cell["batch"], cell["items_per_s"]] for cell in cells]
    everything = [cell.plain["items_per_s"] for cell in cells]
    scale = alt.Scale(type="log", nice=False, padding=12, domain=[min(everything), max(everything)])
    best: dict[int, float] = {}
    for cell in cells:
        if cell.plain["backend"] == "tensorflow":
            batch = cell.plain["batch"]
            best[batch] = max(best.get(batch, 0.0), cell.plain["items_per_s"])
    panels = []
    for backend in dict.fromkeys(cell.plain["backend"] for cell in cells):
        own = [
            {
                "name": label(cell.plain).removeprefix(f"{backend} "),
                "batch": cell.plain["batch"],
                "rate": cell.plain["items_per_s"],
            }
            for cell in cells
            if cell.plain["backend"] == backend
        ]
        x = alt.X("batch:Q", title="batch size (log)", scale=alt.Scale(type="log", nice=False, padding=12))
        x = x.axis(values=run.batches(), format="d")
        y = alt.Y("rate:Q", title="images/s (log)", scale=scale)
        names = list(dict.fromkeys(point["name"] for point in own))
        line = base(own).mark_line(strokeWidth=2).encode(x=x, y=y, color=by_name("name", names)["color"])
        dots = base(own).mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, **by_name("name", names))
        layers = [line, dots]
        if backend != "tensorflow" and best:
            known = [{"batch": batch, "rate": rate} for batch, rate in best.items()]
            layers.insert(0, base(known).mark_line(strokeDash=[3, 3], color="var(--quiet)").encode(x=x, y=y))
        panels.append(panel(backend, alt.layer(*layers), len(own), 290))
    return Figure(
        "throughput",
        "Throughput against batch size",
        "Images per second, host array to host array; both axes are logarithmic, and the same in all panels. Higher is "
        "better. The dotted grey line is the fastest way to run the original model at each batch size.",
        panels,
        [Column("run by"), Column("batch", "count"), Column("images/s", "rate")],
        rows,
    )


def limits(run: Run) -> Figure:
    """Draw how near each cell comes to what the machine could do at best, and what bounds it."""
    if run.results is None:
        return Figure("limits", "Share of the machine's limit", "", empty=NOT_TIMED)
    panels, rows = [], []
    kinds = list(dict.fromkeys(cell.plain["limit"]["limit"] for cell in run.cells() if cell.plain["limit"]))
    for mode, meaning in MODES.items():
        for batch in run.batches():
            points = []
            for cell in run.cells(batch=batch, mode=mode, twin=False):
                limit = cell["limit"]
                if not limit:
                    continue
                rows.append([label(cell.plain), cell["batch"], meaning, limit.plain["limit"]])
                rows[-1] += [limit["limit_us"], cell["p50_us"], limit["share"]]
                points.append(
                    {"name": label(cell.plain), "share": 100 * limit.plain["share"], "limit": limit.plain["limit"]}
                )
            if points:
                order = alt.EncodingSortField("share", op="max", order="descending")
                y = named_rows([point["name"] for point in points], sort=order)
                x = alt.X("share:Q", title="share of the limit, % (log)", scale=alt.Scale(type="log", nice=False))
                dot = base(points).mark_point(filled=True, size=80, opacity=1).encode(y=y, x=x)
                dot = dot.encode(**by_name("limit", kinds))
                chart = alt.layer(ruled(100, vertical=True), dot)
                panels.append(panel(f"Batch {batch}, {meaning}", chart, len(points), 100 + 20 * len(points)))
    return Figure(
        "limits",
        "Share of the machine's limit",
        "How near each way comes to the least time that this machine could take for the model's arithmetic and bytes, "
        "by what it was measured to do at best in the same run. The dashed line is the limit itself; beyond it the "
        "weights stay in the processor's cache. What is far left has room, or spends its time on other things than "
        "computing.",
        panels,
        [
            Column("run by"),
            Column("batch", "count"),
            Column("mode"),
            Column("bound by"),
            Column("at best, µs", "us"),
            Column("p50, µs", "us"),
            Column("share", "share"),
        ],
        rows,
        "" if panels else "No limit of this machine is known.",
    )


def side_by_side(runs: Iterable[Run]) -> Figure:
    """Draw the medians of several runs beside each other."""
    runs = list(runs)
    names = [run.name for run in runs]
    panels, rows = [], []
    for mode, meaning in MODES.items():
        for batch in dict.fromkeys(batch for run in runs for batch in run.batches()):
            points = []
            for run in runs:
                for cell in run.cells(batch=batch, mode=mode, twin=False):
                    if cell.plain["p50_us"] is None:
                        continue
                    points.append({"name": label(cell.plain), "p50": cell.plain["p50_us"], "run": run.name})
                    rows.append([label(cell.plain), cell["batch"], meaning, run.name, cell.plain["device"]])
                    rows[-1] += [cell["p50_us"], cell["items_per_s"]]
            if points:
                order = alt.EncodingSortField("p50", op="min")
                y = named_rows([point["name"] for point in points], sort=order)
                x = alt.X("p50:Q", title="p50 latency, µs (log)", scale=alt.Scale(type="log", nice=False, padding=8))
                dot = base(points).mark_point(filled=True, size=80, opacity=0.85).encode(y=y, x=x)
                dot = dot.encode(yOffset=alt.YOffset("run:N", sort=names), **by_name("run", names))
                height = 90 + 14 * (len({point["name"] for point in points}) * len(runs) + len(runs))
                panels.append(panel(f"Batch {batch}, {meaning}", dot, len(points), height))
    return Figure(
        "runs",
        "Medians of the runs",
        "Each mark is one way to run the model in one run; left is faster, on a log axis. Runs on different machines, "
        "or of models of different data, are worth a look and never a verdict.",
        panels,
        [
            Column("run by"),
            Column("batch", "count"),
            Column("mode"),
            Column("run"),
            Column("device"),
            Column("p50, µs", "us"),
            Column("images/s", "rate"),
        ],
        rows,
        "" if panels else NO_CELL,
    )
