"""The article's example on the real MNIST, where a folder has it."""

import json
import os
from pathlib import Path

import pytest
from commands import run_here

from pipeline import precisions
from pipeline.data import DIR_VARIABLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.skipif(not os.environ.get(DIR_VARIABLE), reason=f"{DIR_VARIABLE} does not name a folder with MNIST"),
]

AT_HAND = {DIR_VARIABLE: os.environ.get(DIR_VARIABLE, "")}
"""As it is outside the tests of this folder, which see none."""


def test_the_articles_cnn_keeps_its_accuracy_in_every_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in AT_HAND.items():
        monkeypatch.setenv(name, value)
    for stage in ("train", "export", "engine", "validate"):
        run_here(stage, "--set=data.name=mnist", "--set=engine.precisions=auto", "--set=engine.tune=false")
    history = json.loads((tmp_path / "artifacts/train/history.json").read_text())
    assert len(history["epochs"]) == 2, "the fast recipe"
    assert history["test_samples"] == 10_000
    assert history["test"][0]["value"] >= 0.98
    parity = json.loads((tmp_path / "artifacts/validate/parity.json").read_text())
    assert parity["verdict"] == "pass"
    ran = {row["runner"]["name"]: row for row in parity["runners"] if row["total"]}
    typed = {f"typed {name}" for name in precisions.NAMES}
    assert ran.keys() >= {"saved_model", "onnx", *typed, "onnxruntime cpu int8", "openvino cpu int8"}
    assert all(row["verdict"] == "pass" and row["total"]["outputs"][0]["samples"] == 10_000 for row in ran.values())
    selection = json.loads((tmp_path / "artifacts/engine/selection.json").read_text())
    assert selection["chosen"] in ("int8", "fp8")
    assert {row["precision"] for row in selection["candidates"] if row["rejected"]} == set(precisions.NAMES) - {
        selection["chosen"]
    }

    # The wider ones would do with a fifth of the budget.
    wide = [row["total"] for row in ran.values() if row["runner"]["precision"] not in ("int8", "fp8")]
    assert all(total["outputs"][0]["loss_ci95"][1] <= 0.1 or "outputs within" in total["reason"] for total in wide)
