"""The tables: one description, drawn on a terminal and in Markdown, with the artifacts' own numbers."""

import subprocess
import sys
from pathlib import Path

import made_records
import made_run
import pytest
from rich.console import Console

from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.loadgen import Expected, LoadgenAccuracy, LoadgenResult, Metric
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.selection import CandidatePrecision, SelectedOn, Selection
from pipeline.artifacts.sensitivity import LayerGroup, LayerSensitivity, Trial
from pipeline.measuring import comparison, statistics
from pipeline.tables import (
    Column,
    Table,
    Traced,
    accuracy,
    engines,
    loadgen,
    markdown,
    recommendation,
    sensitivity,
    terminal,
)
from pipeline.tables import comparison as compared_runs
from pipeline.tables import speed as speed_tables
from pipeline.tables.numbers import written
from pipeline.tables.table import Mixed, Number


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a small run."""
    root = tmp_path_factory.mktemp("tables") / "artifacts"
    made_run.make(root)
    return root


def shown(table: Table, width: int = 200) -> str:
    """Return a table as a terminal has it."""
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(terminal(table))
    return captured.get()


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
        (1.0042, "near one", "1.004×"),
        (0.00010833, "share", "0.011 %"),
        (0.3954, "share", "40 %"),
        (1.07e-6, "difference", "1.1e-06"),
        (None, "us", "n/a"),
        (float("inf"), "us", "inf"),
        ("typed fp32", "us", "typed fp32"),
        (True, "count", "True"),
        (12.5, "text", "12.5"),
    ],
)
def test_numbers_are_written_one_way(value: object, kind: str, text: str) -> None:
    assert written(value, kind) == text
    assert written(Traced(value, "f"), kind) == text


def test_names_are_never_markup_nor_break_a_table() -> None:
    table = Table(
        "[red]title[/red]", [Column("[b]name[/b]"), Column("verdict", "verdict")], [["[i]a|b\nc[/i]", "pass"]]
    )
    on_terminal = shown(table)
    assert all(text in on_terminal for text in ("[red]title[/red]", "[b]name[/b]", "[i]a|b", "c[/i]"))
    assert markdown(table).splitlines()[2] == r"| \[i\]a\|b c\[/i\] | **pass** |"


def test_a_terminal_leaves_details_out_and_cuts_nothing_off() -> None:
    table = Table("t", [Column("runner"), Column("why", detail=True)], [["onnxruntime cpu fp32 " * 3, "because"]])
    narrow = shown(table, 20)
    assert "because" not in narrow
    assert "…" not in narrow
    assert narrow.count("fp32") == 3
    assert "because" in markdown(table)


def test_numbers_among_words_keep_their_place() -> None:
    cell = Mixed((Number(Traced(16.1547, "f", "/ratio"), "ratio"), " tensorflow call"))
    assert str(cell) == "16.15× tensorflow call"
    assert "| 16.15× tensorflow call |" in markdown(Table("t", [Column("over")], [[cell]]))


def test_a_table_is_the_same_of_a_model_and_of_one_that_knows_its_place(folder: Path) -> None:
    parity = ParityReport.read(folder / "validate/parity.json")
    results = BenchmarkResults.read(folder / "benchmark/results.json")
    choices = Recommendation.read(folder / "benchmark/recommendation.json")
    records = [EngineRecord.read(folder / f"engine/{name}/engine.json") for name in ("fp32", "fp16", "int8")]
    for build, plain in (
        *((accuracy.hops, parity), (accuracy.runners, parity)),
        *((speed_tables.speedups, results), (speed_tables.noise, results)),
        (lambda one: speed_tables.latency(one, "end_to_end"), results),
        *((recommendation.choices, choices), (recommendation.ranking, choices), (recommendation.excluded, choices)),
        *((lambda one: engines.engines([one]), record) for record in records),
    ):
        table = build(plain)
        assert table.rows
        assert markdown(table) == markdown(build(Traced(plain, "f")))
        assert shown(table) == shown(build(Traced(plain, "f")))


def test_accuracy_says_what_each_hop_and_each_runner_lost(folder: Path) -> None:
    parity = ParityReport.read(folder / "validate/parity.json")
    hops, runners = shown(accuracy.hops(parity)), shown(accuracy.runners(parity))
    assert "Accuracy hop by hop, on 540 test samples of digits" in hops
    assert "typed fp16 → onnxruntime cpu fp16, emulated" in hops
    assert "−0.20 (−0.90 to +0.10)" in runners
    assert "skipped" in hops
    assert "skipped" in runners
    assert "| onnxruntime on cpu |" in markdown(accuracy.hops(parity))
    one = parity.hops[0].comparison.outputs[0].model_copy(update={"max_abs": None})
    broken = parity.hops[0].comparison.model_copy(update={"outputs": (one,)})
    changed = parity.model_copy(update={"hops": (parity.hops[0].model_copy(update={"comparison": broken}),)})
    assert "not finite" in shown(accuracy.hops(changed))


def test_latency_names_the_limit_and_the_strongest_original(folder: Path) -> None:
    results = BenchmarkResults.read(folder / "benchmark/results.json")
    table = speed_tables.latency(results, "end_to_end")
    text = shown(table)
    assert "onnxruntime cpu fp32 (A/A repeat)" in text
    assert "19.6 – 20.6" in text
    assert "15 % of compute" in text
    assert "44.44× tensorflow function" in text
    assert "tensorflow call," not in text
    assert "n/a" in text, "60 calls support no 99th percentile"
    assert not speed_tables.latency(results, "compute").rows
    near = tuple(row.model_copy(update={"verdict": made_records.SAME}) for row in results.speedups)
    assert "44.44× tensorflow function, no significant difference" in shown(
        speed_tables.latency(results.model_copy(update={"speedups": near}), "end_to_end")
    )
    assert "0.990× (0.985× to 1.005×)" in shown(speed_tables.noise(results))


def test_the_only_runner_has_no_next(folder: Path) -> None:
    found = Recommendation.read(folder / "benchmark/recommendation.json")
    only = found.choices[0].model_copy(
        update={"next": None, "ratio": None, "ratio_ci95": None, "verdict": "the only one"}
    )
    table = recommendation.choices(found.model_copy(update={"choices": (only,)}))
    assert markdown(table).splitlines()[2].startswith("| 1 | latency | openvino cpu int8 | cpu | 9.0 µs |  |  | **the")


def test_candidates_say_why_not() -> None:
    rows = (
        CandidatePrecision(
            precision="fp16",
            cost=16.0,
            mean_bits=16.0,
            onnx_bytes=1,
            engine_bytes=None,
            comparison=made_records.comparison(),
            rejected="",
        ),
        CandidatePrecision(
            precision="fp8",
            cost=None,
            mean_bits=8.0,
            onnx_bytes=0,
            engine_bytes=None,
            comparison=None,
            rejected="no graph",
        ),
    )
    on = SelectedOn(name="digits", split="validation", samples=300)
    found = Selection(
        chosen="fp16",
        basis="bits",
        pareto=("fp16",),
        candidates=rows,
        dataset=on,
        outputs=(made_records.JUDGED,),
    )
    lines = markdown(engines.candidates(found)).splitlines()
    assert lines[2] == "| fp16 | 16 | +0.00 (−0.70 to +0.30) | yes | chosen |"
    assert lines[3] == "| fp8 |  |  |  | no graph |"


def test_layer_sensitivity_says_what_a_layer_wins_back() -> None:
    trial = Trial(verdict="fail", error=0.1, loss={"probabilities": 2.0}, non_finite=0, reason="lost")
    groups = (
        LayerGroup(
            layers=("conv2d", "dense"), nodes=(), overflows=True, error_alone=1e-3, won_back=0.9, verdict="pass"
        ),
        LayerGroup(layers=("last",), nodes=(), overflows=False, error_alone=None, won_back=0.0, verdict="skipped"),
    )
    found = LayerSensitivity(
        model_sha256="0",
        precision="fp16",
        samples=5000,
        outputs=(made_records.JUDGED,),
        baseline=trial,
        tensors=(),
        groups=groups,
        keep_fp32=("conv2d",),
        result=trial,
    )
    text = shown(sensitivity.layers(found))
    assert "Layer sensitivity of fp16, on 5,000 samples" in text
    assert "conv2d, dense (overflows)" in text
    assert "nothing left in this precision" in text
    assert "1.0e-03" in text
    assert "90 %" in text


def test_two_runs_are_compared_with_their_floor_and_their_reason() -> None:
    key = comparison.Key("openvino cpu int8", 1, "end_to_end", "cpu")
    ratio = statistics.Ratio(0.9, (0.88, 0.93))
    rows = [
        comparison.Row(key, "slower", "", 9.0, 10.0, ratio, 0.0123),
        comparison.Row(key, comparison.GONE, "not there"),
    ]
    text = shown(compared_runs.compared(rows))
    assert "old over new: above 1, new is faster" in text
    assert "0.900× (0.880× to 0.930×)" in text
    assert "1.23 %" in text
    assert "gone: not there" in text
    assert "before, µs" in shown(compared_runs.compared(rows, "before", "after"))


def test_a_scenario_of_loadgen_is_reported_with_its_unit() -> None:
    accuracy_seen = LoadgenAccuracy(
        output="probabilities",
        metric="accuracy",
        value=0.95,
        samples=540,
        validated_runner=made_records.FP32.name,
        validated=0.95,
        fp32=0.96,
        of_fp32=0.9896,
        meets_99=False,
        meets_99_9=False,
    )
    result = LoadgenResult(
        scenario="singlestream",
        mode="performance",
        unofficial=("not submitted",),
        statement="Result not verified by MLCommons Association.",
        valid=False,
        loadgen_result="INVALID",
        reasons=("too few queries",),
        metric=Metric(name="90th percentile of latency", value=41500.0, unit="ns"),
        metrics={},
        accuracy=(accuracy_seen,),
        runner=made_records.FP32,
        device="cpu",
        session={},
        largest_batch=1,
        expected=Expected(seconds=1.0, queries=1, samples_per_query=1, samples_per_s=1.0),
        seconds_asked=None,
        settings={},
        dataset="digits",
        loadgen_version="6",
    )
    text = shown(loadgen.scenarios([result]), 250)
    assert "90th percentile of latency: 41.5 µs" in text
    assert "0.9500 on 540 samples, 98.96 % of FP32's" in text
    assert "invalid: too few queries" in text
    assert "unofficial, not verified by MLCommons Association" in text
    unknown = result.model_copy(update={"metric": result.metric.model_copy(update={"value": None})})
    assert "90th percentile of latency: unavailable" in shown(loadgen.scenarios([unknown]), 250)


def test_tables_load_neither_charts_nor_templates() -> None:
    modules = "accuracy, comparison, engines, loadgen, recommendation, sensitivity, speed"
    script = f"import sys; from pipeline.tables import {modules}\n"
    script += "print([name for name in ('altair', 'jinja2', 'vl_convert', 'onnx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
