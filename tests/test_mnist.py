"""The article's example on the real MNIST, where a folder has it."""

import json
import os
from pathlib import Path

import pytest
from commands import Run

from pipeline.data import DIR_VARIABLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(DIR_VARIABLE), reason=f"{DIR_VARIABLE} does not name a folder with MNIST"),
]


def test_the_articles_cnn_reaches_its_accuracy_and_every_hop_passes(pipeline: Run, tmp_path: Path) -> None:
    for stage in ("train", "export", "engine", "validate"):
        done = pipeline(stage, "--set=data.name=mnist", "--set=validate.accuracy_budget_pp=0.1")
        assert done.returncode == 0, f"{stage}: {done.stdout}{done.stderr}"
    history = json.loads((tmp_path / "artifacts/train/history.json").read_text())
    assert history["epochs"] == 5
    assert history["test_samples"] == 10_000
    assert history["test_accuracy"] >= 0.98
    parity = json.loads((tmp_path / "artifacts/validate/parity.json").read_text())
    assert parity["verdict"] == "pass"
    executed = [hop for hop in parity["hops"] if hop["executed"]]
    assert {hop["candidate"] for hop in executed} >= {"saved_model", "onnx", "typed fp32", "typed tf32", "typed fp16"}
    assert all(hop["verdict"] == "pass" and hop["samples"] == 10_000 for hop in executed)
