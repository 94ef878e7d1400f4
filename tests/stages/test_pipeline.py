"""The whole main job, stage by stage through the command line, and what becomes of it when something is changed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import MAIN_JOB, PYTHONPATH, QUICK, ROOT, Run, read, run_here, run_pipeline, run_python, started
from pages import list_anew

from pipeline import environment, precisions
from pipeline.measuring import statistics
from pipeline.stages import STAGES

PRECISIONS = ("fp32", "tf32", "fp16")
"""Those that the main job builds."""


def ok(results: Any) -> list[dict[str, Any]]:
    """Return the cells that were timed."""
    return [cell for cell in results["cells"] if cell["status"] == "ok"]


def test_every_stage_leaves_its_artifacts_and_a_manifest(main_job: Path) -> None:
    expected = [
        "train/model.keras",
        "train/history.json",
        "export/saved_model/saved_model.pb",
        "export/model.onnx",
        *(f"engine/{name}/{file}" for name in PRECISIONS for file in ("model.onnx", "engine.json")),
        "engine/fp32/tuning.json",
        "validate/parity.json",
        "benchmark/results.json",
        "benchmark/recommendation.json",
        "benchmark/samples.npz",
        "validate/disagreements.json",
        "validate/disagreements.npz",
        "report/index.html",
        "report/report.md",
        *(f"{stage}/manifest.json" for stage in STAGES),
    ]
    if environment.version("tensorrt-rtx-cu12"):
        expected += [f"engine/{name}/model.engine" for name in PRECISIONS]
    assert [name for name in expected if not (main_job / "artifacts" / name).is_file()] == []
    for stage in STAGES:
        manifest = read(main_job, f"{stage}/manifest.json")
        assert manifest["status"] == "done"
        assert manifest["dataset"]["name"] == "digits"
        assert manifest["versions"]["python"]


def test_training_reaches_what_the_readme_says(main_job: Path) -> None:
    history = read(main_job, "train/history.json")
    assert history["test_samples"] == 360
    assert history["test"][0]["metric"] == "accuracy"
    assert history["test"][0]["value"] >= 0.95
    assert all("val_accuracy" in epoch["measures"] for epoch in history["epochs"])


def test_every_runner_that_ran_passes_and_the_others_say_why(main_job: Path) -> None:
    parity = read(main_job, "validate/parity.json")
    assert parity["verdict"] == "pass"
    assert parity["dataset"]["samples"] == 360
    runners = {row["runner"]["name"]: row for row in parity["runners"]}
    assert list(runners)[:3] == ["keras", "saved_model", "onnx"]
    ran = {name for name, row in runners.items() if row["verdict"] != "skipped"}
    assert ran >= {"keras", "saved_model", "onnx", *(f"typed {name}" for name in PRECISIONS)}
    assert ran >= {"onnxruntime cpu fp32", "openvino cpu fp32"}, "what is timed is judged"
    for name, row in runners.items():
        assert row["reason"]
        assert row["verdict"] == ("pass" if name in ran else "skipped")
        assert bool(row["device"]) == (name in ran)
        if row["total"]:
            (output,) = row["total"]["outputs"]
            low, high = output["loss_ci95"]
            assert low <= output["loss"] <= high
    if not environment.gpus():
        assert all(f"tensorrt tensorrt-rtx {name}" in runners.keys() - ran for name in PRECISIONS)
    assert runners["typed fp16"]["total"]["outputs"][0]["max_abs"] > 0, "FP16 rounds"
    assert {row["batch_invariance"]["samples"] for row in runners.values() if row["batch_invariance"]} == {128}
    assert 16 in runners["onnxruntime cpu fp32"]["batch_invariance"]["batch_sizes"], "the benchmark's batch sizes too"


def test_the_hops_lead_from_keras_to_every_runner(main_job: Path) -> None:
    parity = read(main_job, "validate/parity.json")
    hops = {hop["candidate"]: hop for hop in parity["hops"]}
    names = {row["runner"]["name"] for row in parity["runners"]}
    assert hops.keys() == names - {"keras"}
    for name, hop in hops.items():
        chain = [name]
        while chain[-1] != "keras":
            chain.append(hops[chain[-1]]["reference"])
        assert len(chain) <= 5, chain
        assert (hop["comparison"] is None) == (hop["verdict"] == "skipped")
    assert hops["onnxruntime cpu fp32"]["reference"] == "typed fp32"


def test_every_timing_has_a_verdict_of_the_same_runner_with_the_same_options(main_job: Path) -> None:
    parity = read(main_job, "validate/parity.json")
    judged = [row["runner"] for row in parity["runners"] if row["verdict"] != "skipped"]
    exported = [cell for cell in ok(read(main_job, "benchmark/results.json")) if cell["runner"]["role"] == "exported"]
    assert {cell["runner"]["name"] for cell in exported} >= {"onnxruntime cpu fp32", "openvino cpu fp32"}
    for cell in exported:
        assert cell["runner"] in judged
    done = run_pipeline("doctor", "--artifacts", ".", cwd=main_job)
    assert done.returncode == 0, done.stderr
    assert f"{len(exported)} timings" in done.stdout


def test_what_was_judged_with_other_options_is_not_timed(copy: Path) -> None:
    done = run_pipeline("benchmark", *QUICK, "--set=benchmark.threads=1", cwd=copy)
    assert done.returncode == 3, done.stdout
    assert "threads" in done.stderr
    assert "make validate" in done.stderr


def test_a_run_whose_verdicts_are_of_other_runners_is_found(copy: Path) -> None:
    results = read(copy, "benchmark/results.json")
    cell = next(cell for cell in ok(results) if cell["runner"]["name"] == "onnxruntime cpu fp32")
    cell["runner"]["options"]["threads"] = 64
    path = copy / "artifacts/benchmark/results.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    list_anew(copy / "artifacts", "benchmark")
    done = run_pipeline("doctor", "--artifacts", ".", cwd=copy)
    assert done.returncode == 6, done.stdout
    assert "onnxruntime cpu fp32 was timed" in done.stderr


def test_the_fastest_that_passed_is_recommended(main_job: Path) -> None:
    results, parity = read(main_job, "benchmark/results.json"), read(main_job, "validate/parity.json")
    passed = [row["runner"]["name"] for row in parity["runners"] if row["verdict"] == "pass"]
    found = read(main_job, "benchmark/recommendation.json")
    assert {(row["batch"], row["goal"]) for row in found["choices"]} == {
        (batch, goal) for batch in (1, 16) for goal in ("latency", "throughput")
    }
    for choice in (choice for choice in found["choices"] if choice["goal"] == "latency"):
        cells = {
            cell["runner"]["name"]: cell["timing"]["p50_us"]
            for cell in ok(results)
            if (cell["batch"], cell["mode"]) == (choice["batch"], "end_to_end")
            and cell["runner"]["role"] == "exported"
            and cell["runner"]["name"] in passed
            and not cell["repeat"]
        }
        assert [row["runner"] for row in choice["ranking"]] == sorted(cells, key=lambda name: cells[name])
        fastest = min(cells, key=lambda name: cells[name])
        assert choice["runner"]["name"] == fastest or choice["verdict"] == statistics.NOT_SIGNIFICANT


def test_every_way_to_run_the_model_has_a_row(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    cells = results["cells"]
    ran = {cell["runner"]["name"] for cell in ok(results)}
    originals = {f"tensorflow {name}" for name in ("predict", "call", "function", "xla", "saved_model")}
    assert ran >= originals | {"onnxruntime cpu fp32", "null harness"}
    for cell in ok(results):
        timing = cell["timing"]
        assert (timing["p99_us"] is None) == (timing["samples"] < statistics.samples_needed(0.99))
        low, high = timing["p50_ci95_us"]
        assert low <= timing["p50_us"] <= high
        assert len(timing["round_p50_us"]) == len(timing["round_mean_us"]) == 3
        assert cell["warmup"]["calls"] >= 1
        assert cell["conditions"]["start"]
        assert cell["device"] == "cpu" or environment.gpus()
        if cell["runner"]["role"] != "harness":
            assert cell["settings"]["threads"]
            assert cell["limit"]["share"] > 0
    for cell in cells:
        assert cell["status"] == "ok" or (cell["reason"] and cell["timing"] is None)
    if not environment.gpus():
        skipped = {cell["runner"]["name"] for cell in cells if cell["status"] == "skipped"}
        assert skipped >= {"onnxruntime cuda fp32", "tensorrt tensorrt-rtx fp32"}


def test_the_kept_samples_are_those_the_results_are_of(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    with np.load(main_job / "artifacts/benchmark/samples.npz") as samples:
        for cell in ok(results):
            name = f"{cell['runner']['name']}{'.repeat' if cell['repeat'] else ''}"
            rounds = [samples[f"{name}/{cell['batch']}/{cell['mode']}/round{index}"] for index in range(3)]
            assert sum(map(len, rounds)) == cell["timing"]["samples"]
            assert np.concatenate(rounds).mean() / 1e3 == pytest.approx(cell["timing"]["mean_us"])


def test_speedups_name_every_baseline_the_strongest_first(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in results["speedups"]:
        groups.setdefault((row["runner"], row["batch"], row["mode"]), []).append(row)
    assert groups
    for (*_, mode), rows in groups.items():
        ratios = [row["ratio"] for row in rows]
        assert ratios == sorted(ratios), "the strongest baseline has the smallest ratio"
        assert len(rows) == (5 if mode == "end_to_end" else 4)
        for row in rows:
            low, high = row["ratio_ci95"]
            assert low <= row["ratio"] <= high
            assert row["verdict"] in ("faster", "slower", statistics.NOT_SIGNIFICANT)


def test_a_cell_against_itself_shows_the_noise(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    assert {row["batch"] for row in results["noise_floor"]} == {1, 16}
    for row in results["noise_floor"]:
        assert row["runner"] == "onnxruntime cpu fp32"
        assert row["floor"] >= abs(1 - row["ratio"])
    assert {cell["batch"] for cell in ok(results) if cell["repeat"]} == {1, 16}


def test_the_harness_own_cost_is_published_beside_the_results(main_job: Path) -> None:
    costs: dict[bool, list[float]] = {True: [], False: []}
    for cell in ok(read(main_job, "benchmark/results.json")):
        costs[cell["runner"]["role"] == "harness"].append(cell["timing"]["p50_us"])
    assert 0 < max(costs[True]) < min(costs[False])
    assert "The harness itself" in (main_job / "artifacts/report/report.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_a_regression_is_told_and_fails_only_where_asked(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    timed = (*QUICK, "--set=benchmark.rounds=6", "--set=benchmark.batch_sizes=16")
    run_here("benchmark", *timed)
    results = read(copy, "benchmark/results.json")
    timing = next(cell["timing"] for cell in ok(results) if cell["runner"]["backend"] == "onnxruntime")
    timing["round_p50_us"] = [value / 20 for value in timing["round_p50_us"]]  # beyond any noise
    (copy / "faster.json").write_text(json.dumps(results), encoding="utf-8")
    told = run_pipeline("benchmark", *timed, "--compare", "faster.json", cwd=copy)
    assert told.returncode == 0, told.stderr
    assert "slower" in told.stdout
    failed = run_pipeline("benchmark", *timed, "--compare", "faster.json", "--fail-on-regression", cwd=copy)
    assert failed.returncode == 7
    assert "onnxruntime cpu" in failed.stderr
    missing = run_pipeline("benchmark", *timed, "--compare", "no.json", cwd=copy)
    assert missing.returncode == 3
    assert "no.json" in missing.stderr


def test_an_interrupt_keeps_what_is_measured(copy: Path) -> None:
    timed = (*QUICK, "--force", "--set=benchmark.batch_sizes=16,4096")
    with started("benchmark", *timed, cwd=copy, until="batch 4096") as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, output + errors
    assert "what was measured until then is kept" in errors
    assert "Traceback" not in errors
    results = read(copy, "benchmark/results.json")
    assert results["interrupted"]
    assert {cell["batch"] for cell in ok(results)} == {16}
    assert results["speedups"]
    again = run_pipeline("report", *QUICK, cwd=copy)
    assert again.returncode == 0, again.stderr
    assert "**Interrupted**" in (copy / "artifacts/report/report.md").read_text(encoding="utf-8")


NO_SAMPLES = """
import pathlib
if "multiprocessing.forkserver" in pathlib.Path("/proc/self/cmdline").read_text():
    import numpy
    def load(*arguments, **named):
        raise OSError("the disk is gone")
    numpy.load = load
"""
"""As Python's `sitecustomize` module: every worker process fails at what it reads first."""


@pytest.mark.skipif(not Path("/proc").exists(), reason="tells the workers' server by /proc")
def test_a_benchmark_all_of_whose_cells_failed_fails_and_leaves_the_good_one(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_SAMPLES, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), PYTHONPATH])
    published = [copy / "artifacts/benchmark" / name for name in ("results.json", "manifest.json")]
    before = [path.read_bytes() for path in published]
    done = run_pipeline("benchmark", *QUICK, "--set=benchmark.batch_sizes=16", cwd=copy, PYTHONPATH=path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "nothing was timed" in done.stderr
    assert "onnxruntime cpu fp32, batch 16: failed: OSError: the disk is gone" in done.stderr
    assert [path.read_bytes() for path in published] == before, "so it is not up to date by that"


def test_a_validation_in_which_nothing_ran_fails_and_leaves_the_good_one(copy: Path) -> None:
    before = (copy / "artifacts/validate/parity.json").read_bytes()
    program = (
        "import sys\n"
        "from pipeline import backends, cli\n"
        "from pipeline.errors import BackendUnavailable\n"
        "def probe(variant): raise BackendUnavailable('not today')\n"
        "for name in backends.NAMES: backends.get(name).probe = probe\n"
        f"sys.argv[1:] = ['validate', '--force', *{QUICK!r}]\n"
        "cli.main()"
    )
    done = run_python(program, copy)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "nothing was judged: no runner ran" in done.stderr
    assert "not today" in done.stderr
    assert (copy / "artifacts/validate/parity.json").read_bytes() == before


def test_each_epoch_of_the_training_is_timed(main_job: Path) -> None:
    history = read(main_job, "train/history.json")
    assert all(epoch["seconds"] > epoch["waited_s"] >= 0 for epoch in history["epochs"])
    whole = sum(epoch["seconds"] + epoch["validation_s"] for epoch in history["epochs"])
    assert history["seconds"] == pytest.approx(whole, abs=0.01)


def test_the_images_that_changed_are_kept_with_both_answers(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    run_here("engine", *QUICK, "--set=engine.precisions=fp32,fp8", "--set=engine.tune=false")
    run_here("validate", *QUICK)
    found = read(copy, "validate/disagreements.json")
    parity = read(copy, "validate/parity.json")
    judged = {row["runner"]["name"]: row["total"] for row in parity["runners"]}
    assert {row["runner"] for row in found["runners"]} >= {"typed fp8", "onnxruntime cpu fp32"}
    for row in found["runners"]:
        total = judged[row["runner"]]
        assert row["count"] == round((1 - total["outputs"][0]["agreement"]) * total["outputs"][0]["samples"])
        assert len(row["samples"]) == min(row["count"], found["drawn_at_most"])
    assert any(row["count"] for row in found["runners"]), "fp8 changes some answers"
    with np.load(copy / "artifacts/validate/disagreements.npz") as kept:
        drawn = {sample["index"] for row in found["runners"] for sample in row["samples"]}
        assert set(kept["indices"].tolist()) == drawn
        assert kept["input/image"].shape == (len(drawn), 28, 28, 1)


def test_the_report_says_what_was_measured_and_what_was_not(main_job: Path) -> None:
    text = (main_job / "artifacts/report/report.md").read_text(encoding="utf-8")
    assert "digits" in text
    assert "## Accuracy: pass" in text
    assert "tensorflow xla" in text
    assert "What did not run, and why" in text
    if not environment.gpus():
        assert "no NVIDIA GPU" in text


def test_a_second_run_does_nothing(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (copy / "artifacts").rglob("*") if path.is_file()}
    for stage in STAGES:
        done = run_pipeline(stage, *MAIN_JOB, cwd=copy)
        assert "up to date" in done.stdout, done.stdout
    after = {path: path.stat().st_mtime_ns for path in (copy / "artifacts").rglob("*") if path.is_file()}
    assert {path: at for path, at in after.items() if path.name != ".lock"} == {
        path: at for path, at in before.items() if path.name != ".lock"
    }


def test_a_changed_setting_runs_its_stage_and_says_so(copy: Path) -> None:
    done = run_pipeline("engine", *QUICK, "--set=engine.optimization_level=2", cwd=copy)
    assert "engine.optimization_level None → 2" in done.stdout
    stale = run_pipeline("report", *QUICK, cwd=copy)
    assert stale.returncode == 3
    assert "stale" in stale.stderr
    assert "make validate" in stale.stderr


def test_force_runs_a_stage_that_is_up_to_date(copy: Path) -> None:
    done = run_pipeline("report", *QUICK, "--force", cwd=copy)
    assert "forced" in done.stdout
    assert "done in" in done.stdout


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("engine/fp32/model.onnx", "validate"),
        ("train/model.keras", "export"),
        ("export/saved_model/variables/variables.data-00000-of-00001", "validate"),
        ("validate/parity.json", "benchmark"),
    ],
)
def test_one_changed_byte_stops_the_next_stage_and_names_the_file(copy: Path, file: str, stage: str) -> None:
    path = copy / "artifacts" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = run_pipeline(stage, *QUICK, cwd=copy)
    assert done.returncode == 3, done.stderr
    assert file in done.stderr
    assert f"make {file.partition('/')[0]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_truncated_artifact_stops_predict(copy: Path) -> None:
    path = copy / "artifacts/engine/fp16/model.onnx"
    path.write_bytes(path.read_bytes()[:-100])
    np.save(copy / "image.npy", np.zeros((28, 28, 1), np.uint8))
    done = run_pipeline("predict", "image.npy", "--backend=onnxruntime", "--precision=fp16", cwd=copy)
    assert done.returncode == 3
    assert "engine/fp16/model.onnx" in done.stderr


def test_a_killed_stage_leaves_the_previous_artifacts_whole(copy: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", *QUICK, "--force"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    partial = copy / "artifacts/.train.partial"
    deadline = time.monotonic() + 60
    while not partial.exists():
        assert process.poll() is None, "the stage ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "up to date" in run_pipeline("train", *QUICK, cwd=copy).stdout
    assert "up to date" in run_pipeline("export", *QUICK, cwd=copy).stdout


def test_a_full_disk_leaves_the_previous_artifacts_whole(copy: Path) -> None:
    # A limit on the size of files is what a full disk is to a writer: the write fails half way.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"sys.argv = ['pipeline', 'engine', '--force', *{QUICK!r}]\n"
        "from pipeline import cli; cli.main()"
    )
    done = run_python(code, copy)
    assert done.returncode == 3, done.stderr
    assert "cannot write below" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copy / "artifacts/.engine.partial").exists()
    assert "up to date" in run_pipeline("engine", *MAIN_JOB, cwd=copy).stdout


@pytest.mark.long
def test_an_engine_that_cannot_be_built_is_recorded_in_the_builders_words(copy: Path) -> None:
    if not environment.version("tensorrt-rtx-cu12"):
        pytest.skip("TensorRT for RTX is not installed")
    # Turing has no FP32 matrix product in TensorRT for RTX; FP16 it has.
    turing = ("--set=engine.flavour=tensorrt-rtx", "--set=engine.targets=sm75")
    done = run_pipeline("engine", *QUICK, *turing, cwd=copy)
    assert done.returncode == 5, done.stderr
    assert "FP32 GEMM is not supported" in done.stderr
    assert "[pass.cpp" in done.stderr, "the words are the builder's, not markup"
    records = {name: read(copy, f"engine/{name}/engine.json") for name in ("fp32", "fp16")}
    assert records["fp32"]["status"] == "failed"
    assert "FP32 GEMM is not supported" in records["fp32"]["reason"]
    assert ".partial" not in records["fp32"]["reason"]
    assert records["fp16"]["status"] == "built"
    assert records["fp16"]["targets"] == ["sm75"]
    again = run_pipeline("engine", *QUICK, *turing, cwd=copy)
    assert again.returncode == 5, "a failure is not up to date"
    assert run_pipeline("validate", *QUICK, cwd=copy).returncode == 0
    hops = {hop["candidate"]: hop for hop in read(copy, "validate/parity.json")["hops"]}
    assert hops["tensorrt tensorrt-rtx fp32"]["verdict"] == "skipped"
    assert "FP32 GEMM is not supported" in hops["tensorrt tensorrt-rtx fp32"]["reason"]


def test_auto_builds_every_precision_and_chooses_one_with_reasons(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    run_here("engine", *QUICK, "--set=engine.precisions=auto")
    selection = read(copy, "engine/selection.json")
    assert {row["precision"] for row in selection["candidates"]} == set(precisions.NAMES)
    assert selection["dataset"]["split"] == "validation"
    assert selection["chosen"] in selection["pareto"]
    for row in selection["candidates"]:
        assert bool(row["rejected"]) == (row["precision"] != selection["chosen"])
        assert row["comparison"]["outputs"][0]["samples"] == 180
    if not environment.gpus():
        assert "no GPU ran the engines" in selection["basis"], "a CPU's timing ranks nothing"
    for name in precisions.NAMES:
        record = read(copy, f"engine/{name}/engine.json")
        kind = precisions.get(name).compute_type
        if name == "int8":  # TensorRT multiplies by a matrix of 10 columns no faster in 8 bits
            assert record["arithmetic"]["compute_nodes"] == {"INT8": 1, "FLOAT16": 1}
            assert list(record["left_out"].values()) == [
                "10 columns of weights: 8-bit products of matrices pay from 16 on"
            ]
        else:
            assert record["arithmetic"]["compute_nodes"] == {kind: 2}
            assert record["arithmetic"]["mac_share"] == {kind: 1.0}
        assert record["nothing_pays"] == (name == "fp8")
        assert record["remainder"] == ("fp16" if name in ("int8", "fp8") else None)
        assert bool(record["calibration"]) == (name in ("int8", "fp8"))
        if environment.version("tensorrt-rtx-cu12"):
            assert record["status"] == "built"
    calibration = read(copy, "engine/int8/engine.json")["calibration"]
    assert sum(calibration["strata"].values()) == calibration["samples"] == len(calibration["sample_sha256"]) == 512
    assert max(calibration["strata"].values()) - min(calibration["strata"].values()) <= 1
    assert calibration["validation_error"][calibration["method"]] == min(calibration["validation_error"].values())
    assert all(each["amax"] > 0 for each in calibration["activations"].values())

    run_here("validate", *QUICK)
    runners = {row["runner"]["name"]: row for row in read(copy, "validate/parity.json")["runners"]}
    assert all(runners[f"typed {name}"]["verdict"] != "skipped" for name in precisions.NAMES)
    emulated = {name for name in precisions.NAMES if runners[f"typed {name}"]["runner"]["emulated"]}
    assert emulated == {"tf32", "fp16", "bf16", "int8", "fp8"}, "a CPU has none of these; 8 bits have FP16 beside them"
    assert runners["openvino cpu int8"]["runner"]["file"] == "engine/int8/cpu.onnx"
    assert selection["chosen"] != "fp8", "nothing in this network pays in FP8"
    assert runners["openvino cpu int8"]["total"]["outputs"][0]["samples"] == 360, (
        "OpenVINO's INT8 has a verdict of its own"
    )


def test_a_layer_named_to_stay_in_fp32_does_so(copy: Path) -> None:
    kept = ("--set=engine.precisions=fp16,int8", "--set=engine.keep_fp32=conv2d")
    done = run_pipeline("engine", *QUICK, *kept, cwd=copy)
    assert done.returncode == 0, done.stderr
    for name in ("fp16", "int8"):
        record = read(copy, f"engine/{name}/engine.json")
        assert record["keep_fp32"] == ["conv2d"]
        assert record["arithmetic"]["compute_nodes"] == {"FLOAT": 1, precisions.get(name).compute_type: 1}
        assert set(record["in_fp32"].values()) == {"it is kept in FP32"}
    assert "no product is worth quantising" in done.stdout, "INT8 has the last layer alone then, of 10 columns"
    unknown = run_pipeline("engine", *QUICK, "--set=engine.keep_fp32=conv3d", cwd=copy)
    assert unknown.returncode == 2
    assert "conv3d" in unknown.stderr
    assert "conv2d" in unknown.stderr


def test_an_unknown_target_is_named_with_those_there_are(copy: Path) -> None:
    if not environment.version("tensorrt-rtx-cu12"):
        pytest.skip("TensorRT for RTX is not installed")
    done = run_pipeline("engine", "--set=engine.flavour=tensorrt-rtx", "--set=engine.targets=sm99", cwd=copy)
    assert done.returncode == 2
    assert "sm99" in done.stderr
    assert "sm120" in done.stderr
    assert (copy / "artifacts/engine/fp32/model.engine").is_file()


@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "tensorflow"])
def test_predict_tells_what_pictures_and_arrays_show(
    main_job: Path, pipeline: Run, tmp_path: Path, backend: str
) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    eight = np.rint(digits.images[8] * (255 / 16)).astype(np.uint8)  # [8, 8]
    large = np.pad(eight.repeat(30, axis=0).repeat(30, axis=1), 20)
    Image.fromarray(large).save(tmp_path / "eight.png")
    Image.fromarray(large).convert("RGB").save(tmp_path / "eight.jpg", quality=95)
    np.save(tmp_path / "eight.npy", np.pad(eight.repeat(3, axis=0).repeat(3, axis=1), 2))
    names = ("eight.png", "eight.jpg", "eight.npy")
    done = pipeline("predict", *names, f"--backend={backend}", f"--set=artifacts={main_job / 'artifacts'}")
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"{name}: {digits.target[8]} (" in done.stdout


@pytest.mark.long
def test_a_gpu_without_its_libraries_is_no_reason_to_fail(main_job: Path, pipeline: Run, tmp_path: Path) -> None:
    if environment.gpus():
        pytest.skip("this machine has a GPU")
    # Half a GPU: nvidia-smi answers, as on a server whose CUDA libraries are missing or of another version.
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'NVIDIA L4, 570.86.15, 23034, 8.9'\n")
    smi.chmod(0o755)
    np.save(tmp_path / "image.npy", np.zeros((28, 28, 1), np.uint8))
    half = {"PATH": f"{smi.parent}{os.pathsep}{os.environ['PATH']}"}
    artifacts = f"--set=artifacts={main_job / 'artifacts'}"
    done = pipeline("predict", "image.npy", artifacts, **half)
    assert done.returncode == 0, done.stderr
    assert "fp32 on cpu" in done.stdout
    assert done.stderr == ""
    named = pipeline("predict", "image.npy", "--backend=tensorrt", artifacts, **half)
    assert named.returncode == 4
    found = json.loads(pipeline("doctor", "--json", **half).stdout)
    assert found["machine"]["gpus"][0]["name"] == "NVIDIA L4"
    assert any("ONNX Runtime is the build without CUDA" in line for line in found["missing"])
    assert any("TensorFlow does not see the GPU" in line for line in found["missing"])


def test_predict_refuses_what_is_no_image_of_the_models(main_job: Path, pipeline: Run, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "wide.npy", np.zeros((28, 30), np.uint8))
    np.save(tmp_path / "float.npy", np.zeros((28, 28), np.float32))
    for name in ("text.png", "wide.npy", "float.npy", "missing.png"):
        done = pipeline("predict", name, f"--set=artifacts={main_job / 'artifacts'}")
        assert done.returncode == 2, done.stderr
        assert name in done.stderr
        assert "Traceback" not in done.stderr
