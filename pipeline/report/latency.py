"""The figure on latency: every call, as density strips between percentiles."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import altair as alt
import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.results import Cell
from pipeline.measuring import statistics
from pipeline.report.figures import COLOURS, Figure, base, named_rows, panel
from pipeline.report.run import Run
from pipeline.report.speed import NO_CELL, NOT_TIMED
from pipeline.tables import Column, Table
from pipeline.tables.speed import MODES, called
from pipeline.tables.table import Cell as TableCell
from pipeline.tables.traced import Traced

LEVELS = (0.01, 0.05, 0.10, 0.25, 0.40, 0.50, 0.60, 0.75, 0.90, 0.95, 0.99)
"""The percentiles by which a distribution is drawn."""

SAMPLES = "benchmark/samples.npz"

COLUMNS = (
    *(Column("runner"), Column("batch", "count"), Column("mode"), Column("calls", "count")),
    *(Column(f"p{round(100 * level)}, µs", "us") for level in LEVELS),
)


class Strip(NamedTuple):
    """A stretch between two percentiles in µs; `density` of the calls in it, 0 to 1."""

    name: str
    start: float
    end: float
    density: float


class Tick(NamedTuple):
    """A cell's median in µs, or its mean where there were too few calls for one."""

    name: str
    p50: float


def distributions(run: Run) -> Figure:
    """Draw the latencies of all calls as density strips between percentiles, from the raw samples."""
    if run.results is None:
        return Figure("latency", "Latency of every call", empty=NOT_TIMED)
    panels, rows = [], []
    with np.load(run.published.path(SAMPLES), allow_pickle=False) as samples:
        for mode, meaning in MODES.items():
            for batch in run.batches():
                strips: list[Strip] = []
                ticks: list[Tick] = []
                for cell in run.cells(batch=batch, mode=mode):
                    found, name, timing = percentiles(samples, cell.plain), called(cell.plain), cell.plain.timing
                    assert timing is not None
                    own: list[TableCell] = [name, cell.batch, meaning, cell.timing.samples, *found]
                    rows.append(own)
                    strips += strips_between(name, found)
                    ticks.append(Tick(name, timing.p50_us or timing.mean_us))
                if ticks:
                    title = f"Batch {batch}, {meaning}"
                    panels.append(panel(title, _chart(strips, ticks), len(ticks), 70 + 20 * len(ticks)))
    return Figure(
        "latency",
        "Latency of every call",
        "Each row is one runner, the fastest first; left is faster, on a log axis. The darker a stretch, the more "
        "calls took that long; the tick is the median of the rounds' medians, which the other figures show, and "
        "percentiles are of all calls together. A long pale tail is what some users wait for. A row called (A/A "
        "repeat) is that runner timed a second time: the difference between the two is noise. Percentiles that the "
        f"number of calls cannot support are n/a; every sample is in {SAMPLES}.",
        panels,
        [Table("Latency of every call", COLUMNS, rows)],
        "" if panels else NO_CELL,
    )


def percentiles(samples: Mapping[str, NDArray[np.int64]], cell: Cell) -> list[Traced[float | None]]:
    """Return the percentiles of all calls of a cell in µs, None where there are too few of them."""
    ns = np.concatenate([samples[name] for name in samples if name.startswith(f"{cell.key}/")])
    found = []
    for level in LEVELS:
        enough = len(ns) >= statistics.samples_needed(max(level, 1 - level))
        value = float(np.quantile(ns, level, method="inverted_cdf")) / 1e3 if enough else None
        found.append(Traced(value, SAMPLES, f"/{cell.key}/p{round(100 * level)}"))
    return found


def strips_between(name: str, found: Sequence[Traced[float | None]]) -> list[Strip]:
    """Return the stretches between percentiles with how dense the calls lie there, over log time, 1 at the densest."""
    known = [(level, value.plain) for level, value in zip(LEVELS, found, strict=True) if value.plain is not None]
    strips = []
    for (before, start), (after, end) in pairwise(known):
        width = max(np.log(end / start), 0.01)  # a clock's tick of 10 ns makes neighbouring percentiles equal
        strips.append(Strip(name, start, max(end, start * 1.01), (after - before) / width))
    densest = max((strip.density for strip in strips), default=1.0)
    # Ink in proportion to the square root: a tail of a tenth of the density is still seen.
    return [strip._replace(density=float(np.sqrt(strip.density / densest))) for strip in strips]


def _chart(strips: Sequence[Strip], ticks: Sequence[Tick]) -> Any:
    order = [tick.name for tick in sorted(ticks, key=lambda tick: tick.p50)]
    y = named_rows(order, sort=order)
    scale = alt.Scale(type="log", nice=False, padding=4)
    opacity = alt.Opacity("density:Q", scale=alt.Scale(domain=[0, 1], range=[0.06, 0.95]), legend=None)
    band = base(strips).mark_bar(height={"band": 0.62}, color=COLOURS[0])
    band = band.encode(
        y=y, x=alt.X("start:Q", title="latency of a call, µs (log)", scale=scale), x2="end:Q", opacity=opacity
    )
    tick = base(ticks).mark_tick(thickness=3, size=16, color="var(--ink)").encode(y=y, x="p50:Q")
    return alt.layer(band, tick)
