"""The table of two runs of the benchmark, cell by cell."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.tables.speed import NAMES
from pipeline.tables.table import VERDICT, Cell, Column, Table, with_interval

if TYPE_CHECKING:  # the comparison prints this table
    from pipeline.measuring.comparison import Row


def compared(rows: "Iterable[Row]", old: str = "old", new: str = "new") -> Table:
    """Return the cells of two runs called `old` and `new`: medians in µs, their ratio, and the verdict."""
    cells: list[list[Cell]] = []
    for row in rows:
        key, ratio = row.key, row.ratio
        cells.append(
            [
                *(key.batch, NAMES.get(key.mode, key.mode), key.runner, key.device),
                "" if row.old_us is None else row.old_us,
                "" if row.new_us is None else row.new_us,
                with_interval(ratio.ratio, ratio.ratio_ci95, "near one") if ratio else "",
                "" if row.floor is None else row.floor,
                f"{row.verdict}: {row.reason}" if row.reason else row.verdict,
            ]
        )
    columns = [
        *(Column("batch", "count"), Column("mode"), Column("runner"), Column("device")),
        *(Column(f"{old}, µs", "us"), Column(f"{new}, µs", "us"), Column("times as fast (95 %)", "near one")),
        *(Column("noise, up to", "percent"), Column("verdict", VERDICT)),
    ]
    return Table(f"{old} over {new}: above 1, {new} is faster", columns, cells)
