"""The page: one file with everything in it, without scripts, made from what the artifacts say."""

import json
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline.artifacts.results import Speedup
from pipeline.measuring import comparison
from pipeline.report import accuracy, changed, drawing, findings, latency, layers, numbers, speed, trade_off, training
from pipeline.report import run as runs
from pipeline.report.figures import Figure
from pipeline.report.run import Run
from pipeline.tables import Table, engines, judged, recommendation
from pipeline.tables.comparison import compared
from pipeline.tables.numbers import written
from pipeline.tables.traced import Traced


def render(run: Run, others: Sequence[Run] = ()) -> str:
    """Return the page of a run as HTML, beside other runs where some are given."""
    with drawing.process():
        figures = (
            *(accuracy.parity(run), trade_off.trade_off(run), latency.distributions(run)),
            *(speed.throughput(run), speed.limits(run), training.curves(run)),
        )
        others_beside = beside(run, others) if others else None
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            run=run,
            outputs=run.parity.plain.outputs,
            measured=accuracy.lost_what(run.parity.plain.outputs),
            originals=len({cell.plain.runner.name for cell in run.cells() if cell.plain.runner.role == "original"}),
            failings=findings.failings(run),
            headlines=runs.headlines(run),
            accuracies=run.accuracies(),
            not_run=findings.not_run(run),
            not_run_table=findings.table(run),
            untimed_engines=findings.untimed_engines(run),
            choices=run.recommendation and recommendation.choices(run.recommendation),
            ranking=run.recommendation and recommendation.ranking(run.recommendation),
            excluded=run.recommendation and recommendation.excluded(run.recommendation),
            candidates=run.selection and engines.candidates(run.selection),
            figures={figure.key: figure for figure in figures},
            changed=changed.changed(run),
            layers=layers.layers(run),
            comparison=others_beside,
        )
    )


def _environment() -> Environment:
    jinja = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "marked": numbers.marked,
        "written": written,
        "command": shlex.join,
        "loss": judged.loss,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    return jinja


class OneRun(NamedTuple):
    """A run among several, and its headlines."""

    run: Run
    best: list[Traced[Speedup]]


class Against(NamedTuple):
    """The page's own run against another one, runner by runner."""

    other: Run
    incomparable: str
    differences: list[str]
    table: Table


class Beside(NamedTuple):
    """What the page shows of several runs."""

    runs: list[OneRun]
    against: list[Against]
    figure: Figure
    training: Table


def beside(run: Run, others: Sequence[Run]) -> Beside:
    """Return what the page shows of several runs: their medians, and this run against each other one, cell by cell."""
    against = []
    for other in others:
        if run.results is not None and other.results is not None:
            found = comparison.compare(other.results.plain, run.results.plain)
            table = compared(found.rows, other.name, run.name)
            against.append(Against(other, found.incomparable, found.differences, table))
    everything = [run, *others]
    best = [OneRun(one, runs.headlines(one)) for one in everything]
    return Beside(best, against, speed.side_by_side(everything), training.beside(everything))
