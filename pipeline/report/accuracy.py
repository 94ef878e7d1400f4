"""The figure on accuracy: what each hop loses, and what each runner loses in total."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.artifacts.parity import Comparison
from pipeline.report.figures import Figure, base, named_rows, panel, ruled
from pipeline.report.run import Run
from pipeline.tables import accuracy

VERDICTS = {
    "pass": ("var(--good)", "circle"),
    "inconclusive": ("var(--doubt)", "diamond"),
    "fail": ("var(--bad)", "cross"),
}
"""By which colour and shape each is drawn."""


class Loss(NamedTuple):
    """The accuracy that something lost in percentage points, with its interval."""

    name: str
    drop: float
    low: float
    high: float
    verdict: str


def parity(run: Run) -> Figure:
    """Draw the accuracy that each hop loses, and what each runner loses in total, with intervals and the budget."""
    known = run.parity.plain
    emulated = {one.runner.name for one in known.runners if one.runner.emulated}
    groups = {
        "Each hop": _losses((hop.candidate, hop.comparison) for hop in known.hops),
        "In total, against the original model": _losses((one.runner.name, one.total) for one in known.runners),
    }
    panels = [
        panel(title, _chart(losses, known.accuracy_budget_pp, emulated), len(losses), 90 + 22 * len(losses))
        for title, losses in groups.items()
        if losses
    ]
    return Figure(
        "parity",
        "Where accuracy is lost, hop by hop",
        "A dot is the accuracy that a hop lost on the test samples, its line the 95 % interval; left of 0 is a gain. "
        f"The dashed line is the budget, {known.accuracy_budget_pp:g} points: a hop passes where its whole line stays "
        "left of it, or where every output is within the precision's tolerance.",
        panels,
        [accuracy.hops(run.parity), accuracy.runners(run.parity)],
        "" if panels else "Nothing could be compared with the original model.",
    )


def _losses(compared: Iterable[tuple[str, Comparison | None]]) -> list[Loss]:
    return [
        Loss(name, one.accuracy_drop_pp, *one.accuracy_drop_ci95_pp, one.verdict)
        for name, one in compared
        if one is not None
    ]


def _chart(losses: Sequence[Loss], budget: float, emulated: set[str]) -> Any:
    losses = [one._replace(name=f"{one.name} (emulated)") if one.name in emulated else one for one in losses]
    y = named_rows([one.name for one in losses], sort=None)
    x = alt.X("drop:Q", title="accuracy lost, percentage points")
    known = [verdict for verdict in VERDICTS if verdict in {one.verdict for one in losses}]
    colours = alt.Scale(domain=known, range=[VERDICTS[verdict][0] for verdict in known])
    shapes = alt.Scale(domain=known, range=[VERDICTS[verdict][1] for verdict in known])
    whisker = base(losses).mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q")
    dot = base(losses).mark_point(filled=True, size=80, opacity=1).encode(y=y, x=x)
    dot = dot.encode(
        color=alt.Color("verdict:N", scale=colours, title=None),
        shape=alt.Shape("verdict:N", scale=shapes, title=None),
    )
    return alt.layer(ruled(0, vertical=True, dash=False), ruled(budget, vertical=True), whisker, dot)
