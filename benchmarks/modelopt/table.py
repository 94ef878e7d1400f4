"""The comparison as tables, for the terminal and for Markdown."""

from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.modelopt.measure import MODEL_OPTIMIZER, OURS, Row
from pipeline.tables import Column, Table
from pipeline.tables.numbers import written

COLUMNS = (
    Column("precision"),
    Column("graph by"),
    Column("ranges by"),
    Column("error, test split", "difference"),
    Column("error, validation split", "difference", detail=True),
    Column("metric"),
    Column("multiply-accumulates"),
    Column("Q", "count"),
    Column("DQ", "count"),
    Column("Cast", "count"),
    Column("ONNX, bytes", "count"),
    Column("engine, bytes", "count"),
)
TIMES = (Column("rewritten in, s", "seconds"), Column("built in, s", "seconds"))


def table(network: str, rows: Sequence[Row], *, times: bool) -> Table:
    """Return the table of one network; `times` tells whether it says how long things took."""
    columns = (*COLUMNS, *TIMES) if times else COLUMNS
    return Table(network, columns, [list(_cells(row))[: len(columns)] for row in rows if row.network == network])


def _cells(row: Row) -> Iterator[str | float | None]:
    counts = row.arithmetic or {}
    yield from (row.precision, row.by, row.ranges_by, row.test_error, row.validation_error, _metric(row))
    yield _shares(counts.get("mac_share"))
    yield from (counts.get(name) for name in ("quantize", "dequantize", "casts"))
    yield from (row.onnx_bytes, row.engine_bytes, row.rewrite_s, row.build_s)


def _metric(row: Row) -> str:
    """Return the task's metric of the graph on the test split, and FP32's where that is another."""
    if row.value is None or row.original is None:
        return ""
    before = "" if row.original == row.value else f" (FP32: {written(row.original, 'fraction')})"
    return f"{row.metric} {written(row.value, 'fraction')}{before}"


def _shares(shares: dict[str, float] | None) -> str:
    return ", ".join(f"{written(share, 'share')} {kind}" for kind, share in (shares or {}).items())


def differences(rows: Sequence[Row]) -> Iterator[str]:
    """Say of each precision which products the two compute in other types; both keep the nodes' names."""
    for ours in (row for row in rows if row.by == OURS):
        theirs = next(
            (
                row
                for row in rows
                if (row.network, row.precision, row.by) == (ours.network, ours.precision, MODEL_OPTIMIZER)
            ),
            None,
        )
        if theirs is None or ours.products is None or theirs.products is None:
            continue
        where = f"{ours.network}, {ours.precision}"
        if strangers := ours.products.keys() ^ theirs.products.keys():
            yield f"{where}: {len(strangers)} products have no namesake in the other graph"
        both = [(kind, theirs.products[name]) for name, kind in ours.products.items() if name in theirs.products]
        other = Counter(pair for pair in both if pair[0] != pair[1])
        told = "; ".join(f"{count} in {mine} by us, in {its} by it" for (mine, its), count in other.items())
        yield f"{where}: of {len(both)} products {told or 'all are in the same type'}"


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """Say what failed, and why."""
    for row in rows:
        if row.failed:
            yield f"{row.network}, {row.precision}, {row.by} {row.ranges_by}".rstrip() + f": {row.failed}"
