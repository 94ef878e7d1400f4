"""Tables on accuracy: each step from the Keras model to what is served, and every runner against the original."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.artifacts.parity import JudgedOutput, JudgedRunner, ParityReport
from pipeline.tables.judged import NO_NUMBER, loss, value_kind, worsening
from pipeline.tables.table import VERDICT, Cell, Column, Mixed, Number, Table
from pipeline.tables.traced import Seen, plain

AGREEMENT, MCNEMAR = "agreement", "McNemar p"
OF_SOME_TASKS = (AGREEMENT, MCNEMAR)
"""Columns that are left out where no output has them: numbers neither agree nor are right."""

VERDICTS = (Column("verdict", VERDICT), Column("why", detail=True))


def hops(parity: Seen[ParityReport]) -> Table:
    """Return each step from the Keras model to what is served: what it changes, and what it loses, by output."""
    known = plain(parity)
    rows: list[list[Cell]] = []
    for hop in parity.hops:
        reference, candidate = plain(hop.reference), plain(hop.candidate)
        judged = known.named(candidate)
        emulated = ", emulated" if judged and judged.runner.emulated else ""
        name = f"{reference} → {candidate}{emulated}"
        for cells, verdict in _compared(hop, hop.comparison, known.outputs):
            rows.append([name, run_by(judged), *cells, *verdict])
    columns = [Column("hop"), Column("run by", detail=True), *_columns(known.outputs), *VERDICTS]
    return _without_empty(Table(f"Accuracy hop by hop, {_on(parity)}", columns, rows))


def runners(parity: Seen[ParityReport]) -> Table:
    """Return every runner against the original model, by output, and whether a result depends on its batch."""
    known = plain(parity)
    rows: list[list[Cell]] = []
    for judged in parity.runners:
        invariance = judged.batch_invariance
        different: Cell = ""
        if invariance:
            different = NO_NUMBER if plain(invariance.max_abs) is None else invariance.max_abs
        name = f"{judged.runner.name}{', emulated' if plain(judged.runner.emulated) else ''}"
        device = judged.device if plain(judged.device) is not None else ""
        for cells, verdict in _compared(judged, judged.total, known.outputs):
            rows.append([name, device, *cells, different, *verdict])
    columns = [
        Column("runner"),
        Column("device", detail=True),
        *_columns(known.outputs),
        Column("max |Δ| in other batches", "difference", detail=True),
        *VERDICTS,
    ]
    return _without_empty(Table(f"Every runner against the original model, {_on(parity)}", columns, rows))


def run_by(judged: JudgedRunner | None) -> str:
    """Return by which library and where a runner ran; empty where it did not."""
    if judged is None or judged.device is None:
        return ""
    return f"{judged.runner.backend} on {judged.device}"


def _columns(outputs: Sequence[JudgedOutput]) -> list[Column]:
    """Return the columns of a comparison: named by the metric where all outputs have the same."""
    metrics = list(dict.fromkeys(one.measured for one in outputs))
    metric = metrics[0] if len(metrics) == 1 else ""
    kind = value_kind(outputs[0].unit) if metric else "number"
    one_class = metric == "accuracy" and all(one.form in ("probabilities", "logits") for one in outputs)
    columns = [Column("output")] if len(outputs) > 1 else []
    columns += [Column("max |Δ|", "difference"), Column("top-1 agreement" if one_class else AGREEMENT, "fraction")]
    columns += [] if metric else [Column("metric")]
    columns += [Column(f"{metric or 'metric'} before", kind, detail=True), Column(metric or "metric after", kind)]
    columns.append(Column(f"{worsening(outputs)} (95 %)", "points"))
    return [*columns, Column(MCNEMAR, "number", detail=True)]


def _without_empty(table: Table) -> Table:
    kept = [
        place
        for place, column in enumerate(table.columns)
        if column.name not in OF_SOME_TASKS or any(row[place] != "" for row in table.rows)
    ]
    return Table(table.title, [table.columns[i] for i in kept], [[row[i] for i in kept] for row in table.rows])


def _compared(judged: Any, comparison: Any, outputs: Sequence[JudgedOutput]) -> Iterator[tuple[list[Cell], list[Cell]]]:
    """Yield the cells of each output, and its verdict with the reason, traced or not; one row where there is none."""
    if not comparison:
        yield [""] * len(_columns(outputs)), [judged.verdict, judged.reason]
        return
    metrics = {one.measured for one in outputs}
    for one in comparison.outputs:
        kind = value_kind(one.unit)
        cells: list[Cell] = [one.output] if len(outputs) > 1 else []
        cells += [NO_NUMBER if plain(one.max_abs) is None else one.max_abs, _or_empty(one.agreement)]
        cells += [] if len(metrics) == 1 else [plain(one).measured]
        cells += [_value(one.reference, kind), _value(one.candidate, kind), loss(one), _or_empty(one.p)]
        # Of one output, what else failed a runner counts, too: its batches.
        yield cells, [judged.verdict, judged.reason] if len(outputs) == 1 else [one.verdict, one.reason]


def _value(value: Any, kind: str) -> Cell:
    return NO_NUMBER if plain(value) is None else Mixed((Number(value, kind),))


def _or_empty(value: Any) -> Cell:
    return "" if plain(value) is None else value


def _on(parity: Seen[ParityReport]) -> str:
    dataset = plain(parity).dataset
    return f"on {dataset.samples:,} {dataset.split} samples of {dataset.name}"
