"""The figure on accuracy: what each hop loses, and what each runner loses in total."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import altair as alt

from pipeline.artifacts.parity import Comparison, JudgedOutput
from pipeline.report.figures import Figure, base, named_rows, panel, ruled
from pipeline.report.run import Run
from pipeline.tables import accuracy
from pipeline.tables.judged import POINTS, budgets, metrics

VERDICTS = {
    "pass": ("var(--good)", "circle"),
    "inconclusive": ("var(--doubt)", "diamond"),
    "fail": ("var(--bad)", "cross"),
}
"""By which colour and shape each is drawn."""


class Loss(NamedTuple):
    """How much something lost in the task's unit, with its interval."""

    name: str
    drop: float
    low: float
    high: float
    verdict: str


def parity(run: Run) -> Figure:
    """Draw what each hop loses, and what each runner loses in total, by output, with intervals and the budget."""
    known = run.parity.plain
    emulated = {one.runner.name for one in known.runners if one.runner.emulated}
    panels = []
    for place, judged in enumerate(known.outputs):
        groups = {
            "Each hop": _losses(place, ((hop.candidate, hop.comparison) for hop in known.hops)),
            "In total, against the original model": _losses(
                place, ((one.runner.name, one.total) for one in known.runners)
            ),
        }
        of = f"{judged.output}: " if len(known.outputs) > 1 else ""
        panels += [
            panel(f"{of}{title}", _chart(losses, judged, emulated), len(losses), 90 + 22 * len(losses))
            for title, losses in groups.items()
            if losses
        ]
    return Figure(
        "parity",
        "Where accuracy is lost, hop by hop",
        f"A dot is the {lost_what(known.outputs)} that a hop lost on the test samples, its line the 95 % interval; "
        f"left of 0 is a gain. The dashed line is the budget, {budgets(known.outputs)}: a hop passes where its whole "
        "line stays left of it, or where every output is within the precision's tolerance.",
        panels,
        [accuracy.hops(run.parity), accuracy.runners(run.parity)],
        "" if panels else "Nothing could be compared with the original model.",
    )


def _losses(place: int, compared: Iterable[tuple[str, Comparison | None]]) -> list[Loss]:
    """Return what can be drawn of the losses of the output at this place."""
    found = []
    for name, comparison in compared:
        one = comparison.outputs[place] if comparison else None
        if one and one.loss is not None:
            found.append(Loss(name, one.loss, *(one.loss_ci95 or (one.loss, one.loss)), one.verdict))
    return found


def lost_what(outputs: Sequence[JudgedOutput]) -> str:
    """Return what is lost, in words: `accuracy` where all is measured by that."""
    return metrics(outputs) if len({one.measured for one in outputs}) == 1 else "quality"


def axis(judged: JudgedOutput) -> str:
    """Return what an axis of losses is called."""
    if judged.direction == "lower":
        return f"rise of the {judged.metric}, {judged.unit}"
    return f"{judged.metric} lost, {'percentage points' if judged.unit == POINTS else judged.unit}"


def _chart(losses: Sequence[Loss], judged: JudgedOutput, emulated: set[str]) -> Any:
    losses = [one._replace(name=f"{one.name} (emulated)") if one.name in emulated else one for one in losses]
    y = named_rows([one.name for one in losses], sort=None)
    x = alt.X("drop:Q", title=axis(judged))
    known = [verdict for verdict in VERDICTS if verdict in {one.verdict for one in losses}]
    colours = alt.Scale(domain=known, range=[VERDICTS[verdict][0] for verdict in known])
    shapes = alt.Scale(domain=known, range=[VERDICTS[verdict][1] for verdict in known])
    whisker = base(losses).mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q")
    dot = base(losses).mark_point(filled=True, size=80, opacity=1).encode(y=y, x=x)
    dot = dot.encode(
        color=alt.Color("verdict:N", scale=colours, title=None),
        shape=alt.Shape("verdict:N", scale=shapes, title=None),
    )
    return alt.layer(ruled(0, vertical=True, dash=False), ruled(judged.budget, vertical=True), whisker, dot)
