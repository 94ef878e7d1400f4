"""A user's own models and data go the same way, and what is wrong with them is found, told and mended."""

import os
from pathlib import Path

import pytest
from commands import QUICK, ROOT, Run, read, run_here

from pipeline.errors import ParityError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ONE_BATCH = "--set=benchmark.batch_sizes=16"
"""For tests that are about something else: less to time. In batches of one, checking the outputs takes most of it."""

OWN = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own folder; the models are found as PYTHONPATH would have them found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "tests")


@pytest.mark.long
@pytest.mark.usefixtures("here")
def test_a_model_that_fp16_ruins_is_refused_and_repaired(pipeline: Run, tmp_path: Path) -> None:
    own = ("--set=model.source=own_models:overflowing", "--set=train.epochs=2", *QUICK, ONE_BATCH)
    failed = pipeline("all", *own, **OWN)
    assert failed.returncode == 6, failed.stdout
    assert "typed fp16" in failed.stderr
    assert "typed fp32" not in failed.stderr
    assert not (tmp_path / "artifacts/benchmark").exists()
    with pytest.raises(ParityError, match="typed fp16"):  # a failure is not up to date
        run_here("validate", *own)
    with pytest.raises(ParityError) as refused:
        run_here("benchmark", *own)
    assert refused.value.exit_code == 6
    assert "benchmark.allow_failed=true" in refused.value.hint
    run_here("report", *own)
    html = (tmp_path / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "Accuracy lost in typed fp16" in html
    assert "Nothing was timed: the model failed validation." in html
    assert 'make localise ARGS="--precision fp16"' in html
    run_here("benchmark", *own, "--set=benchmark.allow_failed=true")
    timed = {cell["runner"]["name"] for cell in read(tmp_path, "benchmark/results.json")["cells"] if cell["timing"]}
    assert timed >= {"tensorflow call", "onnxruntime cpu fp32"}, "with a layer that only its module knows"

    run_here("engine", *own, "--set=engine.keep_fp32=auto")
    record = read(tmp_path, "engine/fp16/engine.json")
    assert "too_large" in record["keep_fp32"]
    assert "conv" not in record["keep_fp32"], "nor more layers than need be"
    assert record["arithmetic"]["compute_nodes"]["FLOAT16"] >= 1
    assert record["comparison"]["verdict"] == "pass"
    assert read(tmp_path, "engine/tf32/engine.json")["keep_fp32"] == []
    run_here("validate", *own)
    assert "too_large" in run_here("localise", *own, "--set=localise.precision=fp16")
    assert set(read(tmp_path, "localise/fp16.json")["keep_fp32"]) == set(record["keep_fp32"])


@pytest.mark.usefixtures("here")
def test_localising_a_model_of_one_product_says_that_none_would_be_left(tmp_path: Path) -> None:
    own = ("--set=model.source=own_models:one_product", "--set=train.epochs=1", "--set=data.name=digits")
    for stage in ("train", "export"):
        run_here(stage, *own)
    assert "nothing left in this precision" in run_here("localise", *own, "--set=localise.precision=int8")
    assert read(tmp_path, "localise/int8.json")["groups"][0]["error_alone"] is None
    run_here("localise", *own, "--set=localise.precision=fp16")
    assert (tmp_path / "artifacts/localise/int8.json").is_file(), "what is known of other precisions stays"


@pytest.mark.usefixtures("here")
def test_own_model_and_own_data_go_the_same_way(tmp_path: Path) -> None:
    """As far as the verdict: another model of the user's own is timed above."""
    own = (
        "--set=model.source=own_models:small",
        "--set=data.source=own_models:bright_or_dark",
        "--set=train.epochs=20",
        "--set=train.learning_rate=0.01",
        "--set=engine.tune=false",
        "--set=engine.precisions=fp32",
    )
    for stage in ("train", "export", "engine", "validate"):
        run_here(stage, *own)
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
