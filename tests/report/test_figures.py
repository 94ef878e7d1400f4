"""The figures: what is drawn, and what is in the tables behind them."""

import re
from pathlib import Path

import numpy as np
import pytest
from pages import read

from pipeline.measuring import statistics
from pipeline.report import accuracy, numbers, speed, training
from pipeline.report.traced import Traced


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.2213, "us", "0.22"),
        (13.1995, "us", "13.2"),
        (48183.21, "us", "48,183"),
        (0.9722222, "percent", "97.22 %"),
        (-0.2777, "points", "−0.28"),
        (0.0, "points", "+0.00"),
        (16.1547, "ratio", "16.15×"),
        (1871.3, "ratio", "1,871×"),
        (0.00010833, "share", "0.011 %"),
        (0.3954, "share", "40 %"),
        (1.07e-6, "difference", "1.1e-06"),
        (None, "us", "n/a"),
        (float("inf"), "us", "inf"),
        ("typed fp32", "us", "typed fp32"),
        (True, "count", "True"),
    ],
)
def test_numbers_are_written_one_way(value: object, kind: str, text: str) -> None:
    assert numbers.written(value, kind) == text


def test_a_traced_value_knows_its_place() -> None:
    tree = Traced({"a/b": [{"c~d": 1.5}]}, "stage/file.json")
    assert tree["a/b"][0]["c~d"].source == "stage/file.json#/a~1b/0/c~0d"
    assert [one["c~d"].plain for one in tree["a/b"]] == [1.5]
    assert bool(tree["a/b"])
    assert not Traced([], "f")
    with pytest.raises(TypeError):
        iter(tree)


def test_the_pareto_set_is_what_nothing_beats() -> None:
    points = [{"p50": p50, "drop": drop} for p50, drop in ((1, 3), (2, 1), (2, 2), (3, 1), (4, 0), (1, 3))]
    assert accuracy.pareto(points) == [points[0], points[1], points[4], points[5]]
    assert accuracy.pareto([]) == []


def test_percentiles_are_told_only_where_the_calls_support_them(random: np.random.Generator) -> None:
    cell = {"backend": "a", "variant": "b", "precision": "c", "twin": True, "batch": 1, "mode": "end_to_end"}
    ns = random.integers(1000, 2000, 40)
    found = speed._percentiles(_Samples({"a/b/c.twin/1/end_to_end/round0": ns}), cell)
    known = dict(zip(speed.LEVELS, [value.plain for value in found], strict=True))
    assert known[0.5] == np.quantile(ns, 0.5, method="inverted_cdf") / 1e3
    for level, value in known.items():
        assert (value is None) == (statistics.samples_needed(max(level, 1 - level)) > 40)


class _Samples(dict[str, np.ndarray]):
    @property
    def files(self) -> list[str]:
        return list(self)


def test_strips_are_darkest_where_calls_are_densest() -> None:
    values = [None, 10.0, 11.0, 12.0, 12.1, 12.2, 12.3, 14.0, 30.0, 90.0, None]
    strips = speed._strips([Traced(value, "f") for value in values])
    assert [strip["start"] for strip in strips] == [10.0, 11.0, 12.0, 12.1, 12.2, 12.3, 14.0, 30.0]
    densities = [strip["density"] for strip in strips]
    assert max(densities) == 1.0
    assert densities.index(1.0) in (2, 3, 4)
    assert min(densities) == densities[-1] > 0
    same = speed._strips([Traced(5.0, "f")] * len(speed.LEVELS))
    assert all(strip["end"] > strip["start"] and np.isfinite(strip["density"]) for strip in same)


def test_every_figure_has_a_caption_units_panels_and_the_data_behind_them(main_job: Path) -> None:
    run = read(main_job / "artifacts")
    makers = (accuracy.parity, accuracy.trade_off, speed.distributions, speed.throughput, speed.limits, training.curves)
    for figure in (*(make(run) for make in makers), speed.side_by_side([run, run])):
        assert len(figure.caption) > 60, figure.key
        assert figure.panels, figure.key
        assert all(len(row) == len(figure.columns) for row in figure.rows), figure.key
        for panel in figure.panels:
            titled = re.findall(r"axis titled '([^']+)'", panel.svg)
            assert titled, f"{figure.key}: {panel.title} has no axis with a title"
            assert panel.marks <= len(figure.rows) * 2


def test_the_panels_and_the_table_have_the_same_points(main_job: Path) -> None:
    run = read(main_job / "artifacts")
    throughput = speed.throughput(run)
    assert sum(panel.marks for panel in throughput.panels) == len(throughput.rows)
    distributions = speed.distributions(run)
    assert sum(panel.marks for panel in distributions.panels) == len(distributions.rows)
    limits = speed.limits(run)
    assert sum(panel.marks for panel in limits.panels) == len(limits.rows)
    parity = accuracy.parity(run)
    assert sum(panel.marks for panel in parity.panels) == sum(row[2] != "" and bool(row[1]) for row in parity.rows)


def test_training_shows_the_users_own_measures_and_no_rate_where_none_was_taken(main_job: Path) -> None:
    run = read(main_job / "artifacts")
    curves = training.curves(run)
    assert [panel.title for panel in curves.panels] == ["accuracy", "loss", "throughput"]
    run.history.plain["epoch_seconds"] = []
    assert [panel.title for panel in training.curves(run).panels] == ["accuracy", "loss"]
