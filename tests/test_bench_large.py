"""The large models' benchmark: its own model of more than 2 GB, made small, and its table."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks import large
from benchmarks.large import MiB, Run
from pipeline import backends, graphs
from pipeline.backends import LoadOptions
from pipeline.graphs import files


def test_its_own_model_is_over_2_gb() -> None:
    sizes = [large.FEATURES, *[large.WIDTH] * (large.PRODUCTS + 1), 10]
    assert 4 * sum(taken * given for taken, given in pairwise(sizes)) > 2**31


def test_its_own_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "WIDTH", 64)
    monkeypatch.setattr(files, "DATA_FROM", 1)
    large.write(large.OVER_2_GB, tmp_path)
    graphs.check(graphs.load(tmp_path / "model.onnx"), "the model")
    samples = np.load(tmp_path / "samples.npz")["x_test"]
    with backends.get("onnxruntime").load(tmp_path / "model.onnx", LoadOptions("cpu", exact=True)) as session:
        found = session.run({"x": samples})["y"]
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert len(np.unique(found.round(6), axis=0)) == len(samples), "each sample has an answer of its own"


def test_the_table_says_what_failed_and_what_was_not_run() -> None:
    runs = [
        Run("A", "train", 0, 10.4, 300 * MiB, ""),
        Run("A", "export", 0, 20.0, 450 * MiB, ""),
        Run("A", "engine", 5, 30.0, 999 * MiB, "no memory"),
    ]
    page = large.table(runs, {"A": 100 * MiB}, {"A": {"fp32": "100 / 101", "verdict": "not published"}})
    assert "| A | 100 | 10 | 300 | 3.0 | 20 | 450 | 4.5 |  |  | exit 5 |  |  | not run |" in page
    assert "| A | 100 / 101 | not published |" in page
