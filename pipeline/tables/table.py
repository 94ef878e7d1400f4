"""What a table is, before anything draws it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.tables.numbers import KINDS, written
from pipeline.tables.traced import Traced

Value = str | float | Traced[Any] | None

VERDICT = "verdict"
"""The kind of a column whose words are drawn with emphasis."""

GOOD, DOUBTFUL, BAD = ("pass", "faster"), ("inconclusive",), ("fail", "failed", "slower", "gone")
"""Words of a verdict by what they mean for the reader. All others are neither."""


class Number(NamedTuple):
    """A value of a kind of `numbers.KINDS`, to stand among words."""

    value: Value
    kind: str


@dataclass(frozen=True)
class Mixed:
    """A cell of several parts, as `16.15× (15.90× to 16.31×)`."""

    parts: tuple[str | Number, ...]

    def __str__(self) -> str:
        return "".join(part if isinstance(part, str) else written(*part) for part in self.parts)


Cell = Value | Mixed


class Column(NamedTuple):
    """A column, its unit in its name.

    `kind` is how its numbers are written: one of `numbers.KINDS`, `text` where it has none, or `verdict`. `detail` is
    what a terminal, which is narrow, leaves out.
    """

    name: str
    kind: str = "text"
    detail: bool = False

    @property
    def numeric(self) -> bool:
        """Tell whether the column holds numbers, which are aligned at their end."""
        return self.kind in KINDS


@dataclass(frozen=True)
class Table:
    """A table: what is in it, and its rows, each as long as `columns`."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def texts(self) -> Iterator[list[str]]:
        """Yield each row as text."""
        for row in self.rows:
            yield [text(cell, column) for cell, column in zip(row, self.columns, strict=True)]


def text(cell: Cell, column: Column) -> str:
    """Return a cell as text."""
    return str(cell) if isinstance(cell, Mixed) else written(cell, column.kind)


def with_interval(value: Value, ends: Any, kind: str) -> Mixed:
    """Return a value with its interval in brackets; `ends` are two of the same kind, or None, traced or not."""
    if not ends:
        return Mixed((Number(value, kind),))
    low, high = ends
    return Mixed((Number(value, kind), " (", Number(low, kind), " to ", Number(high, kind), ")"))


def listed(parts: Iterable[tuple[str | Number, ...]], between: str = ", ") -> Mixed:
    """Return parts one after the other."""
    found: list[str | Number] = []
    for part in parts:
        found += [between, *part] if found else part
    return Mixed(tuple(found))
