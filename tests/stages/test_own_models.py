"""A user's own models and data go the same way, and what is wrong with them is found, told and mended."""

import os
from pathlib import Path

import pytest
from commands import QUICK, ROOT, Run, read

ONE_BATCH = "--set=benchmark.batch_sizes=16"
"""For tests that are about something else: less to time. In batches of one, checking the outputs takes most of it."""

OWN = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@pytest.mark.slow
def test_a_model_that_fp16_ruins_is_refused_and_repaired(pipeline: Run, tmp_path: Path) -> None:
    own = ("--set=model.source=own_models:overflowing", "--set=train.epochs=2", *QUICK, ONE_BATCH)
    for stage in ("train", "export", "engine"):
        done = pipeline(stage, *own, **OWN)
        assert done.returncode == 0, done.stderr
    failed = pipeline("validate", *own, **OWN)
    assert failed.returncode == 6, failed.stdout
    assert "typed fp16" in failed.stderr
    assert "typed fp32" not in failed.stderr
    assert "up to date" not in pipeline("validate", *own, **OWN).stdout, "a failure is not up to date"
    refused = pipeline("benchmark", *own, **OWN)
    assert refused.returncode == 6
    assert "benchmark.allow_failed=true" in refused.stderr
    reported = pipeline("report", *own, **OWN)
    assert reported.returncode == 0, reported.stderr
    html = (tmp_path / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "Accuracy lost in typed fp16" in html
    assert "Nothing was timed: the model failed validation." in html
    assert 'make localise ARGS="--precision fp16"' in html
    allowed = pipeline("benchmark", *own, "--set=benchmark.allow_failed=true", **OWN)
    assert allowed.returncode == 0, allowed.stderr

    repaired = pipeline("engine", *own, "--set=engine.keep_fp32=auto", **OWN)
    assert repaired.returncode == 0, repaired.stderr
    record = read(tmp_path, "engine/fp16/engine.json")
    assert "too_large" in record["keep_fp32"]
    assert "conv" not in record["keep_fp32"], "nor more layers than need be"
    assert record["arithmetic"]["compute_nodes"]["FLOAT16"] >= 1
    assert record["comparison"]["verdict"] == "pass"
    assert read(tmp_path, "engine/tf32/engine.json")["keep_fp32"] == []
    assert pipeline("validate", *own, **OWN).returncode == 0
    located = pipeline("localise", "--precision=fp16", *own, **OWN)
    assert located.returncode == 0, located.stderr
    assert "too_large" in located.stdout
    assert set(read(tmp_path, "localise/fp16.json")["keep_fp32"]) == set(record["keep_fp32"])


def test_localising_a_model_of_one_product_says_that_none_would_be_left(pipeline: Run, tmp_path: Path) -> None:
    own = ("--set=model.source=own_models:one_product", "--set=train.epochs=1", "--set=data.name=digits")
    for stage in ("train", "export"):
        assert pipeline(stage, *own, **OWN).returncode == 0
    done = pipeline("localise", "--precision=int8", *own, **OWN)
    assert done.returncode == 0, done.stderr
    assert "nothing left in this precision" in done.stdout
    assert read(tmp_path, "localise/int8.json")["groups"][0]["error_alone"] is None
    again = pipeline("localise", "--precision=fp16", *own, **OWN)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "artifacts/localise/int8.json").is_file(), "what is known of other precisions stays"


@pytest.mark.slow
def test_own_model_and_own_data_go_the_same_way(pipeline: Run, tmp_path: Path) -> None:
    own = (
        "--set=model.source=own_models:small",
        "--set=data.source=own_models:bright_or_dark",
        "--set=train.epochs=20",
        "--set=train.learning_rate=0.01",
        *(option for option in QUICK if "data.name" not in option),
        ONE_BATCH,
        "--set=engine.precisions=fp32",
    )
    done = pipeline("all", *own, **OWN)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    parity = read(tmp_path, "validate/parity.json")
    assert parity["verdict"] == "pass"
    assert parity["dataset"]["name"] == "own_models:bright_or_dark"
    assert parity["dataset"]["samples"] == 100
    assert parity["hops"][0]["comparison"]["outputs"][0]["reference"] > 0.9


def test_a_model_that_would_run_code_when_loaded_is_refused(pipeline: Run, tmp_path: Path) -> None:
    own = ("--set=model.source=own_models:with_lambda", "--set=train.epochs=1", "--set=data.name=digits")
    done = pipeline("train", *own, **OWN)
    assert done.returncode == 3, done.stderr
    assert "arbitrary code" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "artifacts/train").exists()
