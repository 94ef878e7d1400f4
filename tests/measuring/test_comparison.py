"""Two runs compared. The results are made up, with a machine's noise in them; that is told from real changes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run
from rich.console import Console

from pipeline.artifacts.results import Results
from pipeline.errors import ArtifactError, RegressionError
from pipeline.measuring import comparison, statistics

CONTENDERS = {("tensorflow", "predict"): 9000.0, ("onnxruntime", "cpu"): 300.0, ("openvino", "cpu"): 250.0}  # µs
MACHINE = {"cpu": "AMD EPYC", "cores": 2, "system": "Linux 6.18", "gpus": []}
Tree = dict[str, Any]


def run(
    random: np.random.Generator,
    slowdown: Mapping[str, float] | None = None,
    *,
    batches: tuple[int, ...] = (1, 64),
    rounds: int = 10,
    noise: float = 0.02,
    drift: float = 0.02,
    process: float = 0.01,
    between: float = 0.0,
    peaks: bool = True,
) -> Tree:
    """Make up a results.json of the contenders on a CPU, with a twin of the first; `slowdown` by backend.

    All noise is log-normal, and a standard deviation is given of each kind: `noise` of each round of each cell, `drift`
    of a first-order autoregression over the rounds (coefficient 0.7) common to all cells, `process` of the level at
    which a worker process runs, `between` of the machine's level in this run, which its peaks then show to 0.5 %.
    """
    level = np.exp(random.normal(0, between))
    cells, floors = [], []
    for batch in batches:
        mood, moods = 0.0, []
        for _ in range(rounds):
            mood = 0.7 * mood + random.normal(0, drift * np.sqrt(1 - 0.7**2))
            moods.append(mood)
        timed = []
        for (backend, variant), base in [next(iter(CONTENDERS.items())), *CONTENDERS.items()]:
            factor = level * np.exp(random.normal(0, process)) * (slowdown or {}).get(backend, 1)
            times = base * batch**0.8 * factor * np.exp(np.array(moods) + random.normal(0, noise, rounds))
            timed.append(cell(backend, variant, batch, times.tolist(), twin=len(timed) == 1))
        floor = statistics.noise_floor(statistics.speedup(timed[0]["round_p50_us"], timed[1]["round_p50_us"]))
        floors.append({"batch": batch, "mode": "end_to_end", "device": "cpu", "cell": "tensorflow", "floor": floor})
        cells += timed
    rate = float(np.exp(random.normal(0, 0.005)) / level)
    return {
        "schema": 2,
        "interrupted": False,
        "environment": {
            "machine": MACHINE,
            "versions": {"python": "3.11.7", "onnxruntime": "1.26.0"},
            "dataset": "mnist",
            "settings": {"rounds": rounds, "threads": None},
            "threads": 2,
        },
        "noise_floor": floors,
        "limits": {"cpu": {"device": "cpu", "macs_per_s": {"fp32": 4e10 * rate}, "reasons": {}}} if peaks else {},
        "cells": cells,
        "speedups": [],
    }


def cell(backend: str, variant: str, batch: int, round_p50_us: list[float], *, twin: bool = False) -> Tree:
    return {
        "backend": backend,
        "variant": variant,
        "precision": "fp32",
        "device": "cpu",
        "batch": batch,
        "mode": "end_to_end",
        "twin": twin,
        "status": "ok",
        "reason": "",
        "clock": "perf_counter_ns",
        "p50_us": float(np.median(round_p50_us)),
        "round_p50_us": round_p50_us,
    }


def compared(old: Tree, new: Tree) -> comparison.Comparison:
    return comparison.compare(*(Results.model_validate(tree) for tree in (old, new)))


def verdicts(found: comparison.Comparison) -> dict[tuple[str, int], str]:
    return {(row.key.backend, row.key.batch): row.verdict for row in found.rows}


def write(tree: Tree, path: Path) -> Path:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def test_a_run_compared_with_itself_tells_nothing(random: np.random.Generator) -> None:
    old = run(random)
    found = compared(old, old)
    assert set(verdicts(found)) == {(backend, batch) for backend, _ in CONTENDERS for batch in (1, 64)}
    assert set(verdicts(found).values()) == {statistics.UNTOLD}
    assert all(row.ratio is not None and row.ratio.ratio == 1 for row in found.rows)
    assert found.regressions == []
    assert found.differences == []


def test_what_changed_beyond_the_noise_is_told_and_nothing_else(random: np.random.Generator) -> None:
    found = compared(run(random), run(random, {"onnxruntime": 1.2, "openvino": 1 / 1.3}))
    assert {backend: verdict for (backend, _), verdict in verdicts(found).items()} == {
        "tensorflow": statistics.UNTOLD,
        "onnxruntime": "slower",
        "openvino": "faster",
    }
    assert [row.key.backend for row in found.regressions] == ["onnxruntime"] * 2
    for row in found.regressions:
        assert row.ratio is not None
        assert row.ratio.ratio_ci95 is not None
        assert row.ratio.ratio_ci95[0] < row.ratio.ratio < row.ratio.ratio_ci95[1] < 1
        assert row.ratio.ratio == pytest.approx(row.old_us / row.new_us)


def test_equal_runs_raise_few_false_alarms(random: np.random.Generator) -> None:
    """As `compare` has it in its docstring: 0.5 % of the pairs there."""
    alarms = [bool(compared(run(random), run(random)).regressions) for _ in range(200)]
    assert np.mean(alarms) <= 0.03


def test_the_machines_own_drift_is_no_regression(random: np.random.Generator) -> None:
    """A machine 10 % slower as a whole: its peaks say so, and without them nobody could tell."""
    everything = dict.fromkeys((backend for backend, _ in CONTENDERS), 1.1)
    old, slower = run(random, drift=0.01, process=0), run(random, everything, drift=0.01, process=0)
    assert compared(old, slower).regressions
    slower["limits"]["cpu"]["macs_per_s"]["fp32"] /= 1.1
    assert compared(old, slower).regressions == []
    slower["limits"]["cpu"] = None  # whatever else is there is no peak
    assert compared(old, slower).regressions


@pytest.mark.parametrize("noisy", ["old", "new"])
def test_the_larger_noise_floor_of_both_runs_counts(noisy: str, random: np.random.Generator) -> None:
    trees = {"old": run(random), "new": run(random, {"onnxruntime": 1.2})}
    for row in trees[noisy]["noise_floor"]:
        row["floor"] = 0.5 if row["batch"] == 64 else row["floor"]
    found = verdicts(compared(trees["old"], trees["new"]))
    assert (found["onnxruntime", 1], found["onnxruntime", 64]) == ("slower", statistics.UNTOLD)


def test_what_cannot_be_told_has_its_reason(random: np.random.Generator) -> None:
    old, new = run(random), run(random, {"openvino": 2})
    for row in new["cells"]:
        row["clock"] = "cuda_events" if row["batch"] == 1 else row["clock"]
        row["round_p50_us"] = row["round_p50_us"][: 5 if row["batch"] == 64 else None]
    found = compared(old, new)
    assert set(verdicts(found).values()) == {statistics.UNTOLD}
    assert {row.reason for row in found.rows} == {
        "timed by perf_counter_ns, and then by cuda_events",
        "fewer than 6 rounds",
    }
    new = run(random, {"openvino": 2})
    old["noise_floor"] = new["noise_floor"] = [row | {"device": "NVIDIA H200"} for row in old["noise_floor"]]
    assert {row.reason for row in compared(old, new).rows} == {"no noise floor was measured"}
    for tree in (old, new):
        for row in tree["cells"]:
            row["device"] = "NVIDIA H200"
    assert verdicts(compared(old, new))["openvino", 1] == "slower"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": MACHINE | {"cpu": "another"}}, "different machines"),
        ({"machine": MACHINE | {"cores": 4}}, "different machines"),
        ({"machine": MACHINE | {"gpus": [{"name": "NVIDIA H200", "driver": "580"}]}}, "different machines"),
        ({"dataset": "digits"}, "different datasets"),
    ],
)
def test_what_was_not_timed_alike_gets_ratios_and_no_verdict(
    change: Tree, reason: str, random: np.random.Generator
) -> None:
    old, new = run(random), run(random, {"onnxruntime": 2})
    new["environment"] |= change
    new["cells"] = [row for row in new["cells"] if row["backend"] != "openvino"]
    found = compared(old, new)
    assert reason in found.incomparable
    assert set(verdicts(found).values()) == {comparison.NO_VERDICT, comparison.GONE}
    assert all(row.ratio for row in found.rows if row.verdict == comparison.NO_VERDICT)
    assert found.regressions == []
    assert len(found.differences) == 1


def test_other_differences_are_told_and_forbid_nothing(random: np.random.Generator) -> None:
    gpu = {"name": "NVIDIA H200", "driver": "570"}
    old, new = run(random), run(random, {"onnxruntime": 2})
    old["environment"]["machine"] = MACHINE | {"gpus": [gpu]}
    new["environment"] |= {
        "machine": MACHINE | {"gpus": [gpu | {"driver": "580"}], "system": "Linux 6.19"},
        "versions": {"python": "3.11.7", "onnxruntime": "1.27.0", "openvino": "2026.4.0"},
        "settings": {"rounds": 20, "threads": None},
        "threads": 1,
    }
    found = compared(old, new)
    assert len(found.regressions) == 2
    assert found.differences[1].startswith("gpus: ")
    assert [line for line in found.differences if not line.startswith("gpus: ")] == [
        "system: Linux 6.18 → Linux 6.19",
        "threads: 2 → 1",
        "benchmark.rounds: 10 → 20",
        "onnxruntime: 1.26.0 → 1.27.0",
        "openvino: none → 2026.4.0",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "failed", "reason": "NaN in the outputs", "round_p50_us": []}, "failed: NaN in the outputs"),
        ({"status": "skipped", "reason": "not installed", "device": None}, "skipped: not installed"),
        ({"device": "NVIDIA H200"}, "ran on NVIDIA H200"),
        ({"variant": "other"}, "not among the new run's cells"),
    ],
)
def test_a_cell_that_is_gone_is_a_regression(change: Tree, reason: str, random: np.random.Generator) -> None:
    old, new = run(random), run(random)
    for row in new["cells"]:
        if row["backend"] == "openvino" and row["batch"] == 64:
            row |= change
    (found,) = compared(old, new).regressions
    assert (found.key.backend, found.key.batch, found.verdict) == ("openvino", 64, comparison.GONE)
    assert found.reason == reason
    back = compared(new, old)
    assert (verdicts(back)["openvino", 64], back.regressions[:-1]) == (comparison.NEW, [])


def test_what_was_not_asked_for_is_not_gone(random: np.random.Generator) -> None:
    old, new = run(random), run(random, batches=(1,))
    found = compared(old, new)
    assert {batch: verdict for (_, batch), verdict in verdicts(found).items()} == {
        1: statistics.UNTOLD,
        64: comparison.NOT_RUN,
    }
    assert found.regressions == []
    new = run(random) | {"interrupted": True}
    new["cells"] = [row for row in new["cells"] if row["batch"] == 1 or row["backend"] == "tensorflow"]
    assert verdicts(compared(old, new))["openvino", 64] == comparison.NOT_RUN


def test_twins_and_the_harness_itself_are_left_out(random: np.random.Generator) -> None:
    old, new = run(random), run(random)
    for row in new["cells"]:
        if row["twin"]:
            row["round_p50_us"] = [1.0] * 10
    null = cell("null", "harness", 1, [2.0] * 10)
    old["cells"].append(null)
    new["cells"].append(null | {"round_p50_us": [9.0] * 10})
    found = compared(old, new)
    assert len(found.rows) == 6
    assert set(verdicts(found).values()) == {statistics.UNTOLD}


def test_a_regression_is_printed_and_fails_where_asked(random: np.random.Generator, tmp_path: Path) -> None:
    old = comparison.read(write(run(random), tmp_path / "old.json"))
    new = comparison.read(write(run(random, {"onnxruntime": 1.2}, batches=(64,)), tmp_path / "new.json"))
    with (tmp_path / "out.txt").open("w+", encoding="utf-8") as file:
        console = Console(file=file, width=200)
        comparison.show(old, new, console, fail=False)
        comparison.show(old, old, console, fail=True)
        with pytest.raises(RegressionError) as caught:
            comparison.show(old, new, console, fail=True)
        file.seek(0)
        printed = file.read()
    assert caught.value.exit_code == 7
    assert caught.value.message.startswith(
        "worse than in the old results, 1 of 6 cells:\n  onnxruntime cpu, fp32, batch"
    )
    assert "not run: the new run has no such batch size" in printed
    assert "slower: 1" in printed
    (line,) = {line for line in printed.splitlines() if "onnxruntime cpu" in line and "slower" in line}
    assert " 64 " in line
    assert "end_to_end" in line


def test_a_comparison_of_different_machines_says_so(random: np.random.Generator, capsys: Any) -> None:
    old, new = run(random), run(random, {"onnxruntime": 2})
    new["environment"]["machine"] = MACHINE | {"cpu": "[laptop]"}
    comparison.show(Results.model_validate(old), Results.model_validate(new), Console(width=200), fail=True)
    printed = capsys.readouterr().out
    assert "differs: cpu: AMD EPYC → [laptop]" in printed
    assert "no verdicts, and no regressions: the runs were made on different machines" in printed


def test_a_file_that_is_no_results_is_an_artifact_error(random: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    with pytest.raises(ArtifactError, match=r"old\.json does not exist") as caught:
        comparison.read(path)
    assert "Keep a copy of artifacts/benchmark/results.json" in caught.value.hint
    with pytest.raises(ArtifactError, match="cannot be read as JSON"):
        comparison.read(tmp_path)
    for content in (b"{", b"\xff", b""):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="cannot be read as JSON"):
            comparison.read(path)
    for tree, message in (([], "has no schema"), ({}, "has no schema"), ({"schema": 1}, "has schema 1, not 2")):
        path.write_text(json.dumps(tree), encoding="utf-8")
        with pytest.raises(ArtifactError, match=message) as caught:
            comparison.read(path)
        assert "make benchmark" in caught.value.hint
    good = run(random)
    for broken in (
        {"cells": 3},
        {"environment": {}},
        {"cells": [good["cells"][0] | {"round_p50_us": [0.0]}]},
        {"cells": [good["cells"][0] | {"round_p50_us": [float("nan")]}]},
        {"cells": [good["cells"][0] | {"status": "fine"}]},
    ):
        with pytest.raises(ArtifactError, match="is not as schema 2 says"):
            comparison.read(write(good | broken, path))


def test_the_command_line_refuses_old_results_before_it_runs_anything(pipeline: Run) -> None:
    done = pipeline("benchmark", "--compare", "nowhere.json", "--fail-on-regression")
    assert done.returncode == 3
    assert "error: nowhere.json does not exist" in done.stderr
