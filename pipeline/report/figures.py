"""What a figure of the report is made of, and how Vega-Altair's charts become SVG that follows the page's colours.

The charts are drawn when the report is written, not when it is read: the page needs no script, so that it opens where
scripts are forbidden, prints, and can be searched. Their colours are variables of the page's style sheet.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import altair as alt

from pipeline import texts
from pipeline.report import drawing
from pipeline.tables import Table

WIDTH = 340
"""Of a panel in pixels, axes and legend included: a phone's."""

COLOURS = [f"var(--c{index})" for index in range(8)]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]

_THEME: dict[str, object] = {
    "background": "transparent",
    "autosize": {"type": "fit", "contains": "padding"},
    "padding": {"left": 10, "right": 6, "top": 6, "bottom": 4},
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--line)",
        "domainColor": "var(--quiet)",
        "tickColor": "var(--quiet)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": 170,
        "labelOverlap": "greedy",
        "labelSeparation": 8,
        "gridOpacity": 0.7,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "orient": "bottom",
        "columnPadding": 24,
        "symbolStrokeWidth": 2,
    },
    "text": {"fill": "var(--ink)", "fontSize": 11},
    "rule": {"stroke": "var(--quiet)"},
    "range": {"category": COLOURS, "symbol": SHAPES},
}


@dataclass(frozen=True)
class Panel:
    """One drawing; `marks` is how many data points it must show."""

    title: str
    svg: str
    marks: int


@dataclass(frozen=True)
class Figure:
    """Panels with what to see in them, and the tables of what they draw. `empty` says why there is nothing to draw."""

    key: str
    title: str
    caption: str = ""
    panels: list[Panel] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    empty: str = ""


def panel(title: str, chart: Any, marks: int, height: int = 220) -> Panel:
    """Draw a chart of one view, or of layers over one another."""
    spec = _harmless(chart.properties(width=WIDTH, height=height).to_dict())
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    svg = drawing.svg(json.dumps(spec), vl_version=version, config=_THEME, allowed_base_urls=[])
    # The page labels the drawing as one picture, with the table behind it; its hundreds of marks are not read out.
    return Panel(title, svg.replace("<svg ", '<svg aria-hidden="true" ', 1), marks)


def _harmless(tree: Any) -> Any:
    """Return a chart's tree with harmless texts: what XML does not take ends the whole process in vl-convert."""
    if isinstance(tree, dict):
        return {key: _harmless(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_harmless(value) for value in tree]
    return texts.harmless(tree) if isinstance(tree, str) else tree


def base(points: Sequence[NamedTuple]) -> Any:
    """Return a chart of these points, whose fields its channels name."""
    return alt.Chart(alt.InlineData(values=[point._asdict() for point in points]))


def named_rows(names: Sequence[str], **options: Any) -> Any:
    """Return the vertical axis of rows with names, and room for them in any reader's font: 6.4 pixels a letter."""
    room = min(170.0, 6.4 * max(map(len, names), default=0))
    return alt.Y("name:N", title=None, axis=alt.Axis(minExtent=room), **options)


def ruled(value: float, *, vertical: bool, dash: bool = True) -> Any:
    """Return a line across the chart at a value."""
    channel = {"x" if vertical else "y": alt.datum(value)}
    return alt.Chart(alt.InlineData(values=[{}])).mark_rule(strokeDash=[4, 3] if dash else [1, 0]).encode(**channel)


def by_name(field_name: str, names: Sequence[str]) -> dict[str, object]:
    """Return channels that tell categories apart by colour and by shape: no reader depends on colour alone.

    Colours go round one ahead for each round of shapes, so that 64 categories differ in one or the other.
    """
    colours = [COLOURS[(index + index // len(SHAPES)) % len(COLOURS)] for index in range(len(names))]
    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(names))]
    field_type = f"{field_name}:N"
    long = _one_a_line(names)
    legend = alt.Legend(columns=1 if long else 2, labelLimit=190 if long else 150)
    return {
        "color": alt.Color(field_type, scale=alt.Scale(domain=list(names), range=colours), title=None, legend=legend),
        "shape": alt.Shape(field_type, scale=alt.Scale(domain=list(names), range=shapes), title=None, legend=legend),
    }


def legend_height(names: Sequence[str]) -> int:
    """Return the pixels that the legend of `by_name` takes below a drawing."""
    return 16 * (len(names) if _one_a_line(names) else -(-len(names) // 2))


def _one_a_line(names: Sequence[str]) -> bool:
    return max(map(len, names), default=0) > 16
