"""Two runs compared. The results are made up, with a machine's noise in them; that is told from real changes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records
import numpy as np
import pytest
from commands import Run
from rich.console import Console

from pipeline import compare as printing
from pipeline.artifacts.results import BenchmarkResults, NoiseFloor, Peaks, RunEnvironment, Span, Timing
from pipeline.artifacts.runner import Role
from pipeline.environment import Gpu, Machine
from pipeline.errors import ArtifactError, RegressionError
from pipeline.measuring import comparison, statistics

RUNNERS = {"tensorflow predict": 9000.0, "onnxruntime cpu fp32": 300.0, "openvino cpu fp32": 250.0}  # µs
KERAS, ORT, OPENVINO = RUNNERS
MACHINE = Machine("AMD EPYC", 2, "Linux 6.18", ())
H200 = Gpu("NVIDIA H200", "570", 143_771, "9.0")
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
    """Make up a results.json of the runners on a CPU, with an A/A repeat of the first; `slowdown` by runner.

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
        for name, base in [next(iter(RUNNERS.items())), *RUNNERS.items()]:
            factor = level * np.exp(random.normal(0, process)) * (slowdown or {}).get(name, 1)
            times = base * batch**0.8 * factor * np.exp(np.array(moods) + random.normal(0, noise, rounds))
            timed.append(cell(name, batch, times.tolist(), repeat=len(timed) == 1))
        ratio = statistics.speedup(*(one["timing"]["round_p50_us"] for one in timed[:2]))
        floors.append(
            NoiseFloor(
                batch=batch,
                mode="end_to_end",
                device="cpu",
                runner=KERAS,
                ratio=ratio.ratio,
                ratio_ci95=ratio.ratio_ci95,
                floor=statistics.noise_floor(ratio),
            )
        )
        cells += timed
    rate = float(np.exp(random.normal(0, 0.005)) / level)
    results = BenchmarkResults(
        interrupted=False,
        environment=RunEnvironment(
            machine=MACHINE,
            versions={"python": "3.11.7", "onnxruntime": "1.26.0"},
            dataset="mnist",
            settings={"rounds": rounds, "threads": None},
            threads=2,
            conditions=Span(start=None, end=None),
        ),
        noise_floor=tuple(floors),
        limits={"cpu": Peaks(device="cpu", threads=2, macs_per_s={"fp32": 4e10 * rate})} if peaks else {},
        cells=(),
        speedups=(),
    )
    return tree(results) | {"cells": cells}


def tree(results: BenchmarkResults) -> Tree:
    return results.model_dump(mode="json", by_alias=True)


def cell(name: str, batch: int, round_p50_us: list[float], *, repeat: bool = False, role: Role = "exported") -> Tree:
    made = made_records.cell(made_records.runner(name, role), batch, 1.0, repeat=repeat)
    p50_us = float(np.median(round_p50_us))
    timing = Timing(
        samples=10 * len(round_p50_us),
        mean_us=p50_us,
        p50_us=p50_us,
        p50_ci95_us=None,
        p90_us=None,
        p95_us=None,
        p99_us=None,
        items_per_s=batch / p50_us * 1e6,
        round_p50_us=tuple(round_p50_us),
        round_mean_us=tuple(round_p50_us),
    )
    return made.model_copy(update={"timing": timing, "limit": None}).model_dump(mode="json")


def compared(old: Tree, new: Tree) -> comparison.Comparison:
    return comparison.compare(*(BenchmarkResults.model_validate(tree) for tree in (old, new)))


def verdicts(found: comparison.Comparison) -> dict[tuple[str, int], str]:
    return {(row.key.runner, row.key.batch): row.verdict for row in found.rows}


def write(tree: Tree, path: Path) -> Path:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def test_a_run_compared_with_itself_tells_nothing(random: np.random.Generator) -> None:
    old = run(random)
    found = compared(old, old)
    assert set(verdicts(found)) == {(name, batch) for name in RUNNERS for batch in (1, 64)}
    assert set(verdicts(found).values()) == {statistics.NOT_SIGNIFICANT}
    assert all(row.ratio is not None and row.ratio.ratio == 1 for row in found.rows)
    assert found.regressions == []
    assert found.differences == []


def test_what_changed_beyond_the_noise_is_told_and_nothing_else(random: np.random.Generator) -> None:
    found = compared(run(random), run(random, {ORT: 1.2, OPENVINO: 1 / 1.3}))
    assert {name: verdict for (name, _), verdict in verdicts(found).items()} == {
        KERAS: statistics.NOT_SIGNIFICANT,
        ORT: "slower",
        OPENVINO: "faster",
    }
    assert [row.key.runner for row in found.regressions] == [ORT] * 2
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
    everything = dict.fromkeys(RUNNERS, 1.1)
    old, slower = run(random, drift=0.01, process=0), run(random, everything, drift=0.01, process=0)
    assert compared(old, slower).regressions
    slower["limits"]["cpu"]["macs_per_s"]["fp32"] /= 1.1
    assert compared(old, slower).regressions == []
    slower["limits"] = {}
    assert compared(old, slower).regressions


@pytest.mark.parametrize("noisy", ["old", "new"])
def test_the_larger_noise_floor_of_both_runs_counts(noisy: str, random: np.random.Generator) -> None:
    trees = {"old": run(random), "new": run(random, {ORT: 1.2})}
    for row in trees[noisy]["noise_floor"]:
        row["floor"] = 0.5 if row["batch"] == 64 else row["floor"]
    found = verdicts(compared(trees["old"], trees["new"]))
    assert (found[ORT, 1], found[ORT, 64]) == ("slower", statistics.NOT_SIGNIFICANT)


def test_what_cannot_be_told_has_its_reason(random: np.random.Generator) -> None:
    old, new = run(random), run(random, {OPENVINO: 2})
    for row in new["cells"]:
        row["clock"] = "cuda_events" if row["batch"] == 1 else row["clock"]
        timing = row["timing"]
        timing["round_p50_us"] = timing["round_p50_us"][: 5 if row["batch"] == 64 else None]
    found = compared(old, new)
    assert set(verdicts(found).values()) == {statistics.NOT_SIGNIFICANT}
    assert {row.reason for row in found.rows} == {
        "timed by perf_counter_ns, and then by cuda_events",
        "fewer than 6 rounds",
    }
    new = run(random, {OPENVINO: 2})
    old["noise_floor"] = new["noise_floor"] = [row | {"device": "cuda:0"} for row in old["noise_floor"]]
    assert {row.reason for row in compared(old, new).rows} == {"no noise floor was measured"}
    for tree in (old, new):
        for row in tree["cells"]:
            row["device"] = "cuda:0"
    assert verdicts(compared(old, new))[OPENVINO, 1] == "slower"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": replace(MACHINE, cpu="another")}, "different machines"),
        ({"machine": replace(MACHINE, cores=4)}, "different machines"),
        ({"machine": replace(MACHINE, gpus=(H200,))}, "different machines"),
        ({"dataset": "digits"}, "different datasets"),
    ],
)
def test_what_was_not_timed_alike_gets_ratios_and_no_verdict(
    change: Tree, reason: str, random: np.random.Generator
) -> None:
    old, new = run(random), run(random, {ORT: 2})
    new["environment"] |= change
    new["cells"] = [row for row in new["cells"] if row["runner"]["name"] != OPENVINO]
    found = compared(old, new)
    assert reason in found.incomparable
    assert set(verdicts(found).values()) == {comparison.NO_VERDICT, comparison.GONE}
    assert all(row.ratio for row in found.rows if row.verdict == comparison.NO_VERDICT)
    assert found.regressions == []
    assert len(found.differences) == 1


def test_other_differences_are_told_and_forbid_nothing(random: np.random.Generator) -> None:
    old, new = run(random), run(random, {ORT: 2})
    old["environment"]["machine"] = replace(MACHINE, gpus=(H200,))
    new["environment"] |= {
        "machine": replace(MACHINE, gpus=(replace(H200, driver="580"),), system="Linux 6.19"),
        "versions": {"python": "3.11.7", "onnxruntime": "1.27.0", "openvino": "2026.4.0"},
        "settings": {"rounds": 20, "threads": None},
        "threads": 1,
    }
    found = compared(old, new)
    assert len(found.regressions) == 2
    assert found.differences[0].startswith("machine: ")
    assert found.differences[1:] == [
        "system: Linux 6.18 → Linux 6.19",
        "threads: 2 → 1",
        "benchmark.rounds: 10 → 20",
        "onnxruntime: 1.26.0 → 1.27.0",
        "openvino: none → 2026.4.0",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "failed", "reason": "NaN in the outputs", "timing": None}, "failed: NaN in the outputs"),
        ({"status": "skipped", "reason": "not installed", "device": None, "timing": None}, "skipped: not installed"),
        ({"device": "cuda:0"}, "ran on cuda:0"),
        ({"runner": made_records.FP32.model_dump() | {"name": "another"}}, "not among the new run's cells"),
    ],
)
def test_a_cell_that_is_gone_is_a_regression(change: Tree, reason: str, random: np.random.Generator) -> None:
    old, new = run(random), run(random)
    for row in new["cells"]:
        if row["runner"]["name"] == OPENVINO and row["batch"] == 64:
            row |= change
    (found,) = compared(old, new).regressions
    assert (found.key.runner, found.key.batch, found.verdict) == (OPENVINO, 64, comparison.GONE)
    assert found.reason == reason
    back = compared(new, old)
    assert (verdicts(back)[OPENVINO, 64], back.regressions[:-1]) == (comparison.NEW, [])


def test_what_was_not_asked_for_is_not_gone(random: np.random.Generator) -> None:
    old, new = run(random), run(random, batches=(1,))
    found = compared(old, new)
    assert {batch: verdict for (_, batch), verdict in verdicts(found).items()} == {
        1: statistics.NOT_SIGNIFICANT,
        64: comparison.NOT_RUN,
    }
    assert found.regressions == []
    new = run(random) | {"interrupted": True}
    new["cells"] = [row for row in new["cells"] if row["batch"] == 1 or row["runner"]["name"] == KERAS]
    assert verdicts(compared(old, new))[OPENVINO, 64] == comparison.NOT_RUN


def test_repeats_and_the_harness_itself_are_left_out(random: np.random.Generator) -> None:
    old, new = run(random), run(random)
    for row in new["cells"]:
        if row["repeat"]:
            row["timing"]["round_p50_us"] = [1.0] * 10
    old["cells"].append(cell("null harness", 1, [2.0] * 10, role="harness"))
    new["cells"].append(cell("null harness", 1, [9.0] * 10, role="harness"))
    found = compared(old, new)
    assert len(found.rows) == 6
    assert set(verdicts(found).values()) == {statistics.NOT_SIGNIFICANT}


def test_a_regression_is_printed_and_fails_where_asked(random: np.random.Generator, tmp_path: Path) -> None:
    old = printing.read(write(run(random), tmp_path / "old.json"))
    new = printing.read(write(run(random, {ORT: 1.2}, batches=(64,)), tmp_path / "new.json"))
    with (tmp_path / "out.txt").open("w+", encoding="utf-8") as file:
        console = Console(file=file, width=200)
        printing.show(old, new, console, fail=False)
        printing.show(old, old, console, fail=True)
        with pytest.raises(RegressionError) as caught:
            printing.show(old, new, console, fail=True)
        file.seek(0)
        printed = file.read()
    assert caught.value.exit_code == 7
    assert caught.value.message.startswith(
        "worse than in the old results, 1 of 6 cells:\n  onnxruntime cpu fp32, batch 64, end_to_end"
    )
    assert "not run: the new run has no such batch size" in printed
    assert "slower: 1" in printed
    (line,) = {line for line in printed.splitlines() if ORT in line and "slower" in line}
    assert " 64 " in line
    assert "end to end" in line


def test_a_comparison_of_different_machines_says_so(random: np.random.Generator, capsys: Any) -> None:
    old, new = run(random), run(random, {ORT: 2})
    new["environment"]["machine"] = replace(MACHINE, cpu="[laptop]")
    printing.show(*(BenchmarkResults.model_validate(tree) for tree in (old, new)), Console(width=200), fail=True)
    printed = capsys.readouterr().out
    assert "differs: machine: AMD EPYC, 2 cores; GPU: none → [laptop], 2 cores; GPU: none" in printed
    assert "no verdicts, and no regressions: the runs were made on different machines" in printed


def test_a_file_that_is_no_results_is_an_artifact_error(random: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    with pytest.raises(ArtifactError, match=r"old\.json does not exist") as caught:
        printing.read(path)
    assert "Keep a copy of artifacts/benchmark/results.json" in caught.value.hint
    with pytest.raises(ArtifactError, match="cannot be read as JSON"):
        printing.read(tmp_path)
    for content in (b"{", b"\xff", b""):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="cannot be read as JSON"):
            printing.read(path)
    for tree, message in (([], "is not a results"), ({}, "is not a results"), ({"schema": 2}, "has schema 2, not 3")):
        path.write_text(json.dumps(tree), encoding="utf-8")
        with pytest.raises(ArtifactError, match=message) as caught:
            printing.read(path)
        assert "make benchmark" in caught.value.hint
    good = run(random)
    first = good["cells"][0]
    for broken in (
        {"cells": 3},
        {"environment": {}},
        {"cells": [first | {"timing": first["timing"] | {"round_p50_us": [0.0]}}]},
        {"cells": [first | {"timing": first["timing"] | {"round_p50_us": [float("nan")]}}]},
        {"cells": [first | {"status": "fine"}]},
    ):
        with pytest.raises(ArtifactError, match="is not as schema 3 says"):
            printing.read(write(good | broken, path))


def test_the_command_line_refuses_old_results_before_it_runs_anything(pipeline: Run) -> None:
    done = pipeline("benchmark", "--compare", "nowhere.json", "--fail-on-regression")
    assert done.returncode == 3
    assert "error: nowhere.json does not exist" in done.stderr
