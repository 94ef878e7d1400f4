"""Tables on accuracy: each step from the Keras model to what is served, and every runner against the original."""

from typing import Any

from pipeline.artifacts.parity import JudgedRunner, ParityReport
from pipeline.tables.table import VERDICT, Cell, Column, Table, with_interval
from pipeline.tables.traced import Seen, plain

COMPARED = (
    Column("max |Δ|", "difference"),
    Column("top-1 agreement", "fraction"),
    Column("accuracy before", "fraction", detail=True),
    Column("accuracy", "fraction"),
    Column("drop, points (95 %)", "points"),
    Column("McNemar p", "number", detail=True),
)
"""The columns of a comparison."""

NO_NUMBER = "not finite"
"""Stands for a difference where an output is NaN or Inf."""


def hops(parity: Seen[ParityReport]) -> Table:
    """Return each step from the Keras model to what is served: what it changes, and what it loses."""
    rows: list[list[Cell]] = []
    for hop in parity.hops:
        reference, candidate = plain(hop.reference), plain(hop.candidate)
        judged = plain(parity).named(candidate)
        emulated = ", emulated" if judged and judged.runner.emulated else ""
        rows.append([f"{reference} → {candidate}{emulated}", run_by(judged), *_compared(hop.comparison)])
        rows[-1] += [hop.verdict, hop.reason]
    columns = [Column("hop"), Column("run by", detail=True), *COMPARED]
    columns += [Column("verdict", VERDICT), Column("why", detail=True)]
    return Table(f"Accuracy hop by hop, {_on(parity)}", columns, rows)


def runners(parity: Seen[ParityReport]) -> Table:
    """Return every runner against the original model, and whether a sample's result depends on its batch."""
    rows: list[list[Cell]] = []
    for judged in parity.runners:
        invariance = judged.batch_invariance
        different: Cell = ""
        if invariance:
            different = NO_NUMBER if plain(invariance.max_abs) is None else invariance.max_abs
        name = f"{judged.runner.name}{', emulated' if plain(judged.runner.emulated) else ''}"
        ran = plain(judged.device) is not None
        rows.append([name, judged.device if ran else "", *_compared(judged.total), different])
        rows[-1] += [judged.verdict, judged.reason]
    columns = [
        Column("runner"),
        Column("device", detail=True),
        *COMPARED,
        Column("max |Δ| in other batches", "difference", detail=True),
        Column("verdict", VERDICT),
        Column("why", detail=True),
    ]
    return Table(f"Every runner against the original model, {_on(parity)}", columns, rows)


def run_by(judged: JudgedRunner | None) -> str:
    """Return by which library and where a runner ran; empty where it did not."""
    if judged is None or judged.device is None:
        return ""
    return f"{judged.runner.backend} on {judged.device}"


def _compared(comparison: Any) -> list[Cell]:
    """Return the cells of a comparison, traced or not; empty where there is none."""
    if not comparison:
        return [""] * len(COMPARED)
    return [
        NO_NUMBER if plain(comparison.max_abs) is None else comparison.max_abs,
        comparison.top1_agreement,
        comparison.accuracy_reference,
        comparison.accuracy_candidate,
        with_interval(comparison.accuracy_drop_pp, comparison.accuracy_drop_ci95_pp, "points"),
        comparison.mcnemar_p,
    ]


def _on(parity: Seen[ParityReport]) -> str:
    dataset = plain(parity).dataset
    return f"on {dataset.samples:,} {dataset.split} samples of {dataset.name}"
