"""How numbers are written in a report: one way for each kind, with the place it was read from."""

import math
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

from pipeline.measuring import statistics
from pipeline.report.traced import Traced

KINDS: dict[str, Callable[[float], str]] = {
    "us": statistics.microseconds,
    "seconds": lambda value: f"{value:,.2f}" if value < 10 else f"{value:,.1f}",
    "count": lambda value: f"{value:,.0f}",
    "rate": lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}",
    "fraction": lambda value: f"{value:.4f}",
    "percent": lambda value: f"{100 * value:.2f} %",
    "share": lambda value: f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %",
    "points": lambda value: f"{value:+.2f}".replace("-", "−"),
    "ratio": lambda value: f"{value:.2f}×" if value < 100 else f"{value:,.0f}×",
    "difference": lambda value: f"{value:.1e}",
    "number": lambda value: f"{value:.4g}",
}
"""How a number of each kind is written. `points` are percentage points."""


def written(value: Any, kind: str) -> str:
    """Return a number as text; "n/a" where it is None, and what is no number as it is."""
    plain = value.plain if isinstance(value, Traced) else value
    if plain is None:
        return "n/a"
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return str(plain)
    return KINDS[kind](plain) if math.isfinite(plain) else str(plain)


def marked(value: Any, kind: str = "number") -> Markup:
    """Return a number as HTML: a `data` element with the value in full and where it was read."""
    text = written(value, kind)
    plain = value.plain if isinstance(value, Traced) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return escape(text)
    source = Markup(' data-from="{0}" title="{0}"').format(value.source) if isinstance(value, Traced) else ""
    return Markup('<data value="{}"{}>{}</data>').format(repr(plain), source, text)
