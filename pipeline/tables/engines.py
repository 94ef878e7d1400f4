"""Tables on what was built: the engines, and the precisions among which one was chosen."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.selection import Selection
from pipeline.tables.judged import losses, worsening
from pipeline.tables.table import VERDICT, Cell, Column, Mixed, Number, Table, listed
from pipeline.tables.traced import Seen, pairs, plain


def engines(records: Iterable[Seen[EngineRecord]]) -> Table:
    """Return each precision's graph and engine: what they compute in, by what that is known, and what failed."""
    rows: list[list[Cell]] = []
    for record in records:
        known = plain(record)
        built_by = f"{known.flavour} {known.version}" if known.flavour else "none"
        status = f"{known.status}: {known.reason}" if known.reason else known.status
        rows.append(
            [
                *(record.precision, _arithmetic(record), ", ".join(known.keep_fp32)),
                *(_reasons(known.left_out), _reasons(known.in_fp32), _calibration(record)),
                record.onnx.bytes if record.onnx else "",
                built_by,
                record.engine.bytes if record.engine else "",
                "" if known.build_seconds is None else record.build_seconds,
                *(status, _proof(record)),
            ]
        )
    columns = [
        *(Column("precision"), Column("multiply-accumulates in"), Column("kept in FP32", detail=True)),
        *(Column("not quantised", detail=True), Column("in FP32 all the same", detail=True)),
        *(Column("calibrated by", detail=True), Column("graph, bytes", "count", detail=True), Column("built by")),
        *(Column("engine, bytes", "count"), Column("built in, s", "seconds", detail=True)),
        *(Column("status", VERDICT), Column("proof of the precision", detail=True)),
    ]
    return Table("Engines", columns, rows)


NAMED = 2
"""Nodes that are named of many with one reason."""


def by_reason(nodes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each reason with the nodes that it is of: their names, or the first ones and how many more."""
    found: dict[str, list[str]] = {}
    for name, why in nodes.items():
        found.setdefault(why, []).append(name)
    for why, names in found.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield f"{', '.join(names[:NAMED])}{more}", why


def _reasons(nodes: Mapping[str, str]) -> str:
    return "; ".join(f"{names}: {why}" for names, why in by_reason(nodes))


def candidates(selection: Seen[Selection]) -> Table:
    """Return the precisions among which one was chosen, and why not the others."""
    known = plain(selection)
    rows: list[list[Cell]] = []
    for one in selection.candidates:
        lost: Cell = ""
        if one.comparison:
            lost = losses(one.comparison)
        in_set = "yes" if plain(one.precision) in known.pareto else ""
        cost = "" if plain(one.cost) is None else one.cost
        rows.append([one.precision, cost, lost, in_set, plain(one.rejected) or "chosen"])
    columns = [Column("precision"), Column("cost", "number"), Column(f"{worsening(known.outputs)} (95 %)", "points")]
    columns += [Column("Pareto set"), Column("why not")]
    return Table(f"Precisions to choose from, by {known.basis}", columns, rows)


def _arithmetic(record: Any) -> Cell:
    """Return the share of each type, or, where shapes are unknown, how many nodes compute in it."""
    if not record.arithmetic:
        return ""
    if record.arithmetic.mac_share:
        return listed((Number(share, "share"), f" {kind}") for kind, share in pairs(record.arithmetic.mac_share))
    return listed((Number(count, "count"), f" nodes {kind}") for kind, count in pairs(record.arithmetic.compute_nodes))


def _calibration(record: Any) -> Cell:
    if not record.calibration:
        return ""
    return Mixed((f"{record.calibration.method}, ", Number(record.calibration.samples, "count"), " samples"))


def _proof(record: Any) -> Cell:
    """Return by what the precision is known: the engine's own layers, or the graph that it was built from."""
    if record.layers:
        types = listed((Number(count, "count"), f" layers in {kind}") for kind, count in pairs(record.layers.types))
        return Mixed(("the engine: ", *types.parts))
    return f"the graph; the engine was not loaded: {record.runs_here_reason}" if record.onnx else ""
