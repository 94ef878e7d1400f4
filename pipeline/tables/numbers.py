"""How numbers are written for people: one way for each kind, wherever they are shown."""

import math
from collections.abc import Callable

from pipeline.tables.traced import Traced


def microseconds(value: float) -> str:
    """Write a duration in µs, as 0.22, 13.2 or 48,183."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


KINDS: dict[str, Callable[[float], str]] = {
    "us": microseconds,
    "seconds": lambda value: f"{value:,.2f}" if value < 10 else f"{value:,.1f}",
    "count": lambda value: f"{value:,.0f}",
    "rate": lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}",
    "fraction": lambda value: f"{value:.4f}",
    "percent": lambda value: f"{100 * value:.2f} %",
    "share": lambda value: f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %",
    "points": lambda value: f"{value:+.2f}".replace("-", "−"),
    "signed": lambda value: f"{value:+.3g}".replace("-", "−"),
    "ratio": lambda value: f"{value:.2f}×" if value < 100 else f"{value:,.0f}×",
    "near one": lambda value: f"{value:.3f}×",
    "difference": lambda value: f"{value:.1e}",
    "number": lambda value: f"{value:.4g}",
}
"""How a number of each kind is written. `points` are percentage points, `signed` is a loss in another unit; `near one`
is a ratio of near equals."""


def written(value: object, kind: str) -> str:
    """Return a number as text; "n/a" where it is None, and what is no number as it is."""
    plain = value.plain if isinstance(value, Traced) else value
    if plain is None:
        return "n/a"
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return str(plain)
    return KINDS.get(kind, KINDS["number"])(plain) if math.isfinite(plain) else str(plain)
