"""The table on runs of MLPerf LoadGen."""

from collections.abc import Iterable
from typing import Any

from pipeline.artifacts.loadgen import LoadgenResult
from pipeline.tables.table import VERDICT, Cell, Column, Mixed, Number, Table
from pipeline.tables.traced import Seen, plain


def scenarios(results: Iterable[Seen[LoadgenResult]]) -> Table:
    """Return the result of each scenario. None of them is an official result, and the title says so."""
    rows: list[list[Cell]] = []
    for result in results:
        known = plain(result)
        rows.append(
            [
                *(result.scenario, result.mode, result.runner.name, result.device),
                *(_metric(result.metric), _accuracy(result.accuracy)),
                "valid" if known.valid else f"invalid: {'; '.join(known.reasons)}",
            ]
        )
    columns = [Column("scenario"), Column("mode"), Column("runner"), Column("device", detail=True)]
    columns += [Column("measured"), Column("accuracy"), Column("by LoadGen's rules", VERDICT)]
    return Table("MLPerf LoadGen: unofficial, not verified by MLCommons Association", columns, rows)


def _metric(metric: Any) -> Cell:
    if not metric:
        return ""
    if plain(metric.value) is None:
        return f"{metric.name}: unavailable"
    if plain(metric.unit) == "ns":
        return Mixed((f"{metric.name}: ", Number(plain(metric.value) / 1e3, "us"), " µs"))
    return Mixed((f"{metric.name}: ", Number(metric.value, "rate"), f" {metric.unit}"))


def _accuracy(accuracy: Any) -> Cell:
    parts: list[str | Number] = []
    for one in accuracy:
        if len(accuracy) > 1:
            parts.append(f"{'; ' if parts else ''}{one.output}: {one.metric} ")
        parts += [Number(one.value, "fraction"), " on ", Number(one.samples, "count"), " samples"]
        if plain(one.of_fp32) is not None:
            parts += [", ", Number(one.of_fp32, "percent"), " of FP32's"]
    return Mixed(tuple(parts)) if parts else ""
