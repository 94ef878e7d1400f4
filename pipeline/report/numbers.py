"""How cells of a table, and numbers among the page's words, become HTML: with the place that each was read from."""

from markupsafe import Markup, escape

from pipeline.tables.numbers import written
from pipeline.tables.table import BAD, DOUBTFUL, GOOD, VERDICT, Cell, Mixed, Value
from pipeline.tables.traced import Traced

CLASSES = dict.fromkeys(GOOD, "pass") | dict.fromkeys(DOUBTFUL, "inconclusive") | dict.fromkeys(BAD, "fail")
"""By which of the style sheet's classes a verdict's words are drawn."""


def marked(cell: Cell, kind: str = "number") -> Markup:
    """Return a cell as HTML: each number a `data` element with the value in full and where it was read."""
    if isinstance(cell, Mixed):
        return Markup("").join(escape(part) if isinstance(part, str) else _data(*part) for part in cell.parts)
    if kind == VERDICT and (known := CLASSES.get(str(cell).partition(":")[0])):
        return Markup('<span class="verdict {}">{}</span>').format(known, str(cell))
    return _data(cell, kind)


def _data(value: Value, kind: str) -> Markup:
    text = written(value, kind)
    plain = value.plain if isinstance(value, Traced) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return escape(text)
    source = Markup(' data-from="{0}" title="{0}"').format(value.source) if isinstance(value, Traced) else ""
    return Markup('<data value="{}"{}>{}</data>').format(repr(plain), source, text)
