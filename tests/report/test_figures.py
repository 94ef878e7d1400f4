"""The figures: what is drawn, and what is in the tables behind them."""

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import made_records
import numpy as np
from pages import read

from pipeline.measuring import statistics
from pipeline.report import accuracy, figures, latency, speed, trade_off, training
from pipeline.tables import Traced


def test_the_pareto_set_is_what_nothing_beats() -> None:
    pairs = ((1, 3), (2, 1), (2, 2), (3, 1), (4, 0), (1, 3))
    points = [trade_off.Point(str(index), p50, drop, 0.0, 0.0) for index, (p50, drop) in enumerate(pairs)]
    best = [point.name for point in trade_off.placed(points) if point.place == "Pareto set"]
    assert best == ["0", "1", "4", "5"]
    assert trade_off.placed([]) == []
    failing = trade_off.Point("failing", 0.1, -9.0, 0.0, 0.0, "does not pass")
    assert trade_off.placed([*points, failing])[:-1] == trade_off.placed(points), "what does not pass beats nothing"


def test_percentiles_are_reported_only_where_the_calls_support_them(random: np.random.Generator) -> None:
    cell = made_records.cell(made_records.FP32, 1, 1.5, repeat=True)
    ns = random.integers(1000, 2000, 40)
    found = latency.percentiles({f"{cell.key}/round0": ns, "another/1/end_to_end/round0": ns + 9000}, cell)
    known = dict(zip(latency.LEVELS, [value.plain for value in found], strict=True))
    assert known[0.5] == np.quantile(ns, 0.5, method="inverted_cdf") / 1e3
    for level, value in known.items():
        assert (value is None) == (statistics.samples_needed(max(level, 1 - level)) > 40)


def test_strips_are_darkest_where_calls_are_densest() -> None:
    values = [None, 10.0, 11.0, 12.0, 12.1, 12.2, 12.3, 14.0, 30.0, 90.0, None]
    strips = latency.strips_between("one", [Traced(value, "f") for value in values])
    assert [strip.start for strip in strips] == [10.0, 11.0, 12.0, 12.1, 12.2, 12.3, 14.0, 30.0]
    densities = [strip.density for strip in strips]
    assert max(densities) == 1.0
    assert densities.index(1.0) in (2, 3, 4)
    assert min(densities) == densities[-1] > 0
    same = latency.strips_between("one", [Traced(5.0, "f")] * len(latency.LEVELS))
    assert all(strip.end > strip.start and np.isfinite(strip.density) for strip in same)


def test_many_categories_differ_in_colour_or_in_shape() -> None:
    channels = figures.by_name("name", [str(index) for index in range(40)])
    ranges = [channels[channel].to_dict()["scale"]["range"] for channel in ("color", "shape")]
    assert len(set(zip(*ranges, strict=True))) == 40


MAKERS = (
    *(accuracy.parity, trade_off.trade_off, latency.distributions),
    *(speed.throughput, speed.limits, training.curves),
)


def test_every_figure_has_a_caption_units_panels_and_the_data_behind_them(main_job: Path) -> None:
    run = read(main_job / "artifacts")
    for figure in (*(make(run) for make in MAKERS), speed.side_by_side([run, run])):
        assert len(figure.caption) > 60, figure.key
        assert figure.panels, figure.key
        for table in figure.tables:
            assert table.rows, figure.key
            assert all(len(row) == len(table.columns) for row in table.rows), figure.key
        for panel in figure.panels:
            titled = re.findall(r"axis titled '([^']+)'", panel.svg)
            assert titled, f"{figure.key}: {panel.title} has no axis with a title"
            assert panel.marks <= sum(len(table.rows) for table in figure.tables) * 2


def test_the_panels_and_the_table_have_the_same_points(main_job: Path) -> None:
    run = read(main_job / "artifacts")
    for make in (latency.distributions, speed.throughput, speed.limits, trade_off.trade_off):
        figure = make(run)
        assert sum(panel.marks for panel in figure.panels) == len(figure.tables[0].rows), figure.key
    parity = accuracy.parity(run)
    compared = [row for table in parity.tables for row in table.rows if row[2] != ""]
    assert sum(panel.marks for panel in parity.panels) == len(compared)


def test_each_timing_has_the_accuracy_of_its_own_runner(made: Path) -> None:
    figure = trade_off.trade_off(read(made))
    rows = {row[0].plain: row for row in figure.tables[0].rows}
    lost = {name: str(row[3]).split()[0] for name, row in rows.items() if row[3] != ""}
    assert lost == {
        "onnxruntime cpu fp32": "+0.00",
        "onnxruntime cpu int8": "+0.10",
        "openvino cpu int8": "−0.20",
        "onnxruntime cpu fp16": "+0.05",
    }
    assert rows["onnxruntime cpu fp16"][2] == "not timed"
    assert rows["openvino cpu int8"][5] == "Pareto set"
    assert rows["onnxruntime cpu int8"][5] == "dominated"
    assert rows["tensorflow function"][5] == "original", "the fastest of them"
    assert figure.panels[-1].title == "Accuracy alone: not timed on this machine"


def test_the_parity_figure_shows_hops_and_totals(made: Path) -> None:
    hops, totals = accuracy.parity(read(made)).panels
    assert (hops.title, totals.title) == ("Each hop", "In total, against the original model")
    assert "typed int8" in hops.svg
    assert "onnxruntime cpu fp16 (emulated)" in totals.svg


def test_training_shows_the_users_own_measures(main_job: Path) -> None:
    curves = training.curves(read(main_job / "artifacts"))
    assert [panel.title for panel in curves.panels] == ["accuracy", "loss", "throughput", "learning rate"]


class Named(NamedTuple):
    """A point of a chart."""

    name: str
    value: float


def test_names_that_xml_does_not_take_are_drawn_as_they_are_shown() -> None:
    """Else vl-convert ends the process."""
    points = [Named(f"a\x1b[2J\x00\ufffe\ud800{number}<b>&", number) for number in range(2)]
    marks = figures.base(points).mark_point()
    chart = marks.encode(x="value:Q", y=figures.named_rows([one.name for one in points]))
    drawn = figures.panel("made", chart, len(points)).svg
    assert "a\\x1b[2J\\x00\\ufffe\\ud8000<b>&" in "".join(ElementTree.fromstring(drawn).itertext())
