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
from commands import MAIN_JOB, QUICK, ROOT, Run, read, run_pipeline, started

from pipeline import environment, precisions
from pipeline.measuring import statistics
from pipeline.stages import STAGES

HOP_KEYS = {
    *(
        "reference",
        "candidate",
        "precision",
        "backend",
        "device",
        "executed",
        "emulated",
        "samples",
        "max_abs",
        "mean_abs",
    ),
    *("top1_agreement", "accuracy_reference", "accuracy_candidate", "accuracy_drop_pp", "accuracy_drop_ci95_pp"),
    *("mcnemar_p", "verdict", "reason"),
}
CELL_KEYS = {
    *("backend", "variant", "precision", "device", "batch", "mode", "twin", "status", "reason", "clock", "settings"),
    *("warmup", "conditions", "samples", "mean_us", "p50_us", "p50_ci95_us", "p90_us", "p95_us", "p99_us"),
    *("items_per_s", "round_p50_us", "limit"),
}


def test_every_stage_leaves_its_artifacts_and_a_manifest(main_job: Path) -> None:
    expected = [
        "train/model.keras",
        "train/history.json",
        "export/saved_model/saved_model.pb",
        "export/model.onnx",
        *(f"engine/{name}/{file}" for name in ("fp32", "tf32", "fp16") for file in ("model.onnx", "engine.json")),
        "validate/parity.json",
        "benchmark/results.json",
        "benchmark/samples.npz",
        "validate/disagreements.json",
        "validate/disagreements.npz",
        "report/index.html",
        "report/report.md",
        *(f"{stage}/manifest.json" for stage in STAGES),
    ]
    if environment.version("tensorrt-rtx-cu12"):
        expected += [f"engine/{name}/model.engine" for name in ("fp32", "tf32", "fp16")]
    assert [name for name in expected if not (main_job / "artifacts" / name).is_file()] == []
    for stage in STAGES:
        manifest = read(main_job, f"{stage}/manifest.json")
        assert manifest["status"] == "done"
        assert manifest["dataset"]["name"] == "digits"
        assert manifest["versions"]["python"]


def test_training_reaches_what_the_readme_says(main_job: Path) -> None:
    history = read(main_job, "train/history.json")
    assert history["test_samples"] == 360
    assert history["test_accuracy"] >= 0.95
    assert len(history["history"]["val_accuracy"]) == history["epochs"]


def test_every_hop_that_ran_passes_and_the_others_say_why(main_job: Path) -> None:
    parity = read(main_job, "validate/parity.json")
    assert parity["verdict"] == "pass"
    assert parity["dataset"]["samples"] == 360
    names = [(hop["reference"], hop["candidate"]) for hop in parity["hops"]]
    typed = [("onnx", f"typed {name}") for name in ("fp32", "tf32", "fp16")]
    engines = [(f"typed {name}", f"engine {name}") for name in ("fp32", "tf32", "fp16")]
    assert set(names) == {("keras", "saved_model"), ("saved_model", "onnx"), *typed, *engines}
    for hop in parity["hops"]:
        assert set(hop) == HOP_KEYS
        assert hop["verdict"] == ("pass" if hop["executed"] else "skipped")
        assert hop["samples"] == (360 if hop["executed"] else 0)
        assert hop["reason"]
        if hop["executed"]:
            low, high = hop["accuracy_drop_ci95_pp"]
            assert low <= hop["accuracy_drop_pp"] <= high
        elif not environment.gpus():
            assert hop["candidate"].startswith("engine")
    fp16 = next(hop for hop in parity["hops"] if hop["candidate"] == "typed fp16")
    assert fp16["max_abs"] > 0, "FP16 rounds"
    assert {row["candidate"] for row in parity["batch_invariance"]} >= {"keras", "saved_model", "onnx"}


def test_every_way_to_run_the_model_has_a_row(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    assert {"machine", "versions", "dataset"} <= set(results["environment"])
    cells = results["cells"]
    ran = {(cell["backend"], cell["variant"]) for cell in cells if cell["status"] == "ok"}
    originals = {("tensorflow", name) for name in ("predict", "call", "function", "xla", "saved_model")}
    assert ran >= originals | {("onnxruntime", "cpu")}
    for cell in cells:
        assert set(cell) == CELL_KEYS
        assert cell["mode"] in ("end_to_end", "compute")
        if cell["status"] == "ok":
            assert cell["mean_us"] > 0
            assert (cell["p99_us"] is None) == (cell["samples"] < statistics.samples_needed(0.99))
            low, high = cell["p50_ci95_us"]
            assert low <= cell["p50_us"] <= high
            assert len(cell["round_p50_us"]) == 3
            assert cell["warmup"]["calls"] >= 1
            assert set(cell["conditions"]) == {"start", "end"}
            if cell["backend"] != "null":
                assert cell["settings"]["threads"]
                assert cell["limit"]["share"] > 0
        else:
            assert cell["reason"]
            assert cell["mean_us"] is None
    if not environment.gpus():
        skipped = {(cell["backend"], cell["variant"]) for cell in cells if cell["status"] == "skipped"}
        assert skipped >= {("onnxruntime", "cuda"), ("tensorrt", "tensorrt-rtx")}


def test_the_kept_samples_are_those_the_results_are_of(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    with np.load(main_job / "artifacts/benchmark/samples.npz") as samples:
        for cell in (cell for cell in results["cells"] if cell["status"] == "ok"):
            names = (cell["backend"], cell["variant"], cell["precision"] + (".twin" if cell["twin"] else ""))
            key = "/".join(map(str, (*names, cell["batch"], cell["mode"])))
            rounds = [samples[name] for name in samples.files if name.startswith(f"{key}/")]
            assert len(rounds) == 3
            assert sum(map(len, rounds)) == cell["samples"]
            assert np.concatenate(rounds).mean() / 1e3 == pytest.approx(cell["mean_us"])


def test_speedups_name_every_baseline_the_strongest_first(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in results["speedups"]:
        key = tuple(row[name] for name in ("backend", "variant", "precision", "batch", "mode"))
        groups.setdefault(key, []).append(row)
    assert groups
    for (*_, mode), rows in groups.items():
        ratios = [row["ratio"] for row in rows]
        assert ratios == sorted(ratios), "the strongest baseline has the smallest ratio"
        assert len(rows) == (5 if mode == "end_to_end" else 4)
        for row in rows:
            low, high = row["ratio_ci95"]
            assert low <= row["ratio"] <= high
            assert row["verdict"] in ("faster", "slower", statistics.UNTOLD)


def test_a_cell_against_itself_shows_the_noise(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    assert {row["batch"] for row in results["noise_floor"]} == {1, 16}
    for row in results["noise_floor"]:
        assert row["cell"] == "onnxruntime cpu fp32"
        assert row["floor"] >= abs(1 - row["ratio"])
    twins = [cell for cell in results["cells"] if cell["twin"] and cell["status"] == "ok"]
    assert {cell["batch"] for cell in twins} == {1, 16}
    assert not any("again" in json.dumps(row) for row in results["speedups"])


def test_the_harness_own_cost_is_published_beside_the_results(main_job: Path) -> None:
    results = read(main_job, "benchmark/results.json")
    ok = [cell for cell in results["cells"] if cell["status"] == "ok"]
    costs = [cell["p50_us"] for cell in ok if cell["backend"] == "null"]
    assert costs
    assert 0 < max(costs) < min(cell["p50_us"] for cell in ok if cell["backend"] != "null")
    assert "The harness itself" in (main_job / "artifacts/report/report.md").read_text(encoding="utf-8")


def test_a_regression_is_told_and_fails_only_where_asked(copy: Path) -> None:
    timed = (*QUICK, "--set=benchmark.rounds=6", "--set=benchmark.batch_sizes=16")
    done = run_pipeline("benchmark", *timed, cwd=copy)
    assert done.returncode == 0, done.stderr
    results = read(copy, "benchmark/results.json")
    cell = next(cell for cell in results["cells"] if cell["backend"] == "onnxruntime" and cell["status"] == "ok")
    cell["round_p50_us"] = [value / 20 for value in cell["round_p50_us"]]  # beyond any noise
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
    ok = {cell["batch"] for cell in results["cells"] if cell["status"] == "ok"}
    assert ok == {16}
    assert results["speedups"]
    again = run_pipeline("report", *QUICK, cwd=copy)
    assert again.returncode == 0, again.stderr
    assert "**Interrupted**" in (copy / "artifacts/report/report.md").read_text(encoding="utf-8")


def test_each_epoch_of_the_training_is_timed(main_job: Path) -> None:
    history = read(main_job, "train/history.json")
    assert len(history["epoch_seconds"]) == history["epochs"]
    assert all(seconds > 0 for seconds in history["epoch_seconds"])
    assert sum(history["epoch_seconds"]) <= history["seconds"]


def test_the_images_that_changed_are_kept_with_both_answers(copy: Path) -> None:
    done = run_pipeline("engine", *QUICK, "--set=engine.precisions=fp32,fp8", "--set=engine.tune=false", cwd=copy)
    assert done.returncode == 0, done.stderr
    done = run_pipeline("validate", *QUICK, cwd=copy)
    assert done.returncode == 0, done.stderr
    found = read(copy, "validate/disagreements.json")
    parity = read(copy, "validate/parity.json")
    executed = [row for row in parity["totals"] if row["executed"]]
    assert [row["candidate"] for row in found["candidates"]] == [row["candidate"] for row in executed]
    for row, total in zip(found["candidates"], executed, strict=True):
        assert row["count"] == round((1 - total["top1_agreement"]) * total["samples"])
        assert len(row["samples"]) == min(row["count"], found["drawn_at_most"])
    with np.load(copy / "artifacts/validate/disagreements.npz") as kept:
        drawn = {sample["index"] for row in found["candidates"] for sample in row["samples"]}
        assert set(kept["indices"].tolist()) == drawn
        assert kept["images"].shape == (len(drawn), 28, 28, 1)


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
    done = run_pipeline("engine", *QUICK, "--set=engine.batch_max=128", cwd=copy)
    assert "engine.batch_max 1024 → 128" in done.stdout
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
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3, done.stderr
    assert "cannot write below" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copy / "artifacts/.engine.partial").exists()
    assert "up to date" in run_pipeline("engine", *MAIN_JOB, cwd=copy).stdout


def test_an_engine_that_cannot_be_built_is_recorded_in_the_builders_words(copy: Path) -> None:
    if not environment.version("tensorrt-rtx-cu12"):
        pytest.skip("TensorRT for RTX is not installed")
    # Turing has no FP32 matrix product in TensorRT for RTX; FP16 it has.
    turing = ("--set=engine.flavour=tensorrt-rtx", "--set=engine.targets=sm75")
    done = run_pipeline("engine", *QUICK, *turing, cwd=copy)
    assert done.returncode == 5, done.stderr
    assert "FP32 GEMM is not supported" in done.stderr
    assert "[pass.cpp" in done.stderr, "the words are the builder's, not markup"
    sidecars = {name: read(copy, f"engine/{name}/engine.json") for name in ("fp32", "fp16")}
    assert sidecars["fp32"]["status"] == "failed"
    assert "FP32 GEMM is not supported" in sidecars["fp32"]["reason"]
    assert ".partial" not in sidecars["fp32"]["reason"]
    assert sidecars["fp16"]["status"] == "built"
    assert sidecars["fp16"]["targets"] == ["sm75"]
    again = run_pipeline("engine", *QUICK, *turing, cwd=copy)
    assert again.returncode == 5, "a failure is not up to date"
    assert run_pipeline("validate", *QUICK, cwd=copy).returncode == 0
    hops = {hop["candidate"]: hop for hop in read(copy, "validate/parity.json")["hops"]}
    assert hops["engine fp32"]["verdict"] == "skipped"
    assert "FP32 GEMM is not supported" in hops["engine fp32"]["reason"]


def test_auto_builds_every_precision_and_chooses_one_with_reasons(copy: Path) -> None:
    done = run_pipeline("engine", *QUICK, "--set=engine.precisions=auto", cwd=copy)
    assert done.returncode == 0, done.stderr
    selection = read(copy, "engine/selection.json")
    assert {row["precision"] for row in selection["candidates"]} == set(precisions.NAMES)
    assert selection["dataset"]["split"] == "validation"
    assert selection["chosen"] in selection["pareto"]
    for row in selection["candidates"]:
        assert bool(row["rejected"]) == (row["precision"] != selection["chosen"])
        assert row["judgement"]["samples"] == 180
    if not environment.gpus():
        assert "no GPU ran the engines" in selection["basis"], "a CPU's timing ranks nothing"
    for name in precisions.NAMES:
        sidecar = read(copy, f"engine/{name}/engine.json")
        kind = precisions.get(name).compute_type
        assert sidecar["census"]["compute_nodes"] == {kind: 2}
        assert sidecar["census"]["mac_share"] == {kind: 1.0}
        assert bool(sidecar["calibration"]) == (name in ("int8", "fp8"))
        if environment.version("tensorrt-rtx-cu12"):
            assert sidecar["status"] == "built"
    calibration = read(copy, "engine/int8/engine.json")["calibration"]
    assert sum(calibration["classes"].values()) == calibration["samples"] == len(calibration["sample_sha256"]) == 512
    assert max(calibration["classes"].values()) - min(calibration["classes"].values()) <= 1
    assert calibration["validation_error"][calibration["method"]] == min(calibration["validation_error"].values())
    assert all(each["amax"] > 0 for each in calibration["activations"].values())

    assert run_pipeline("validate", *QUICK, cwd=copy).returncode == 0
    hops = {hop["candidate"]: hop for hop in read(copy, "validate/parity.json")["hops"]}
    assert all(hops[f"typed {name}"]["executed"] for name in precisions.NAMES)
    emulated = {name for name in precisions.NAMES if hops[f"typed {name}"]["emulated"]}
    assert emulated == {"tf32", "fp16", "bf16"}, "a CPU has none of these"


def test_a_layer_named_to_stay_in_fp32_does_so(copy: Path) -> None:
    kept = ("--set=engine.precisions=fp16,int8", "--set=engine.keep_fp32=conv2d")
    done = run_pipeline("engine", *QUICK, *kept, cwd=copy)
    assert done.returncode == 0, done.stderr
    for name in ("fp16", "int8"):
        sidecar = read(copy, f"engine/{name}/engine.json")
        assert sidecar["keep_fp32"] == ["conv2d"]
        assert sidecar["census"]["compute_nodes"] == {"FLOAT": 1, precisions.get(name).compute_type: 1}
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
    assert any("CUDA provider does not load" in line for line in found["missing"])
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
