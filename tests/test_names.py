"""Names as people and archives give them: spaces, letters of other scripts, a new line, bytes that are not UTF-8."""

import json
import sys
from pathlib import Path

import made_run
import numpy as np
import pytest
from commands import run_here
from PIL import Image

from pipeline import checkup, data
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.config import Data
from pipeline.config.loading import load
from pipeline.config.writing import to_toml
from pipeline.data import samples
from pipeline.errors import ConfigError
from pipeline.tensors import TensorSpec

ODD = "a b\n\udcff\udcfeü日\x1b[2J'\"$`<b>|*{}"
"""Whatever a file system takes but for what parts folders; it has bytes that are not UTF-8."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such names")


def test_a_report_of_runs_in_folders_of_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pipeline", "report", ODD])
    for name in (ODD, f"{ODD}2"):
        made_run.make(tmp_path / name / "artifacts")
    run_here("report", f"--set=artifacts={ODD}/artifacts", f"--set=report.compare={ODD}2")
    published = tmp_path / ODD / "artifacts/report"
    for name in ("index.html", "report.md", "manifest.json"):
        assert "\x1b" not in (published / name).read_text(encoding="utf-8")
    assert "\\xff" in json.loads((published / "manifest.json").read_text(encoding="utf-8"))["command"][-1]
    assert "up to date" in run_here("report", f"--set=artifacts={ODD}/artifacts", f"--set=report.compare={ODD}2")
    assert "each of a runner that passed" in checkup.check(tmp_path / ODD)[-1]


def test_pictures_and_classes_of_odd_names(tmp_path: Path) -> None:
    for folder in (tmp_path / "in" / ODD, tmp_path / "in" / "plain"):
        folder.mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"{number}{ODD}.png")
    record = data.load(Data(source=str(tmp_path / "in"))).record()
    record.write(tmp_path / "dataset.json")
    assert DatasetRecord.read(tmp_path / "dataset.json") == record
    assert record.targets[0].classes[0].startswith("a b\n\\xff\\xfeü日")
    assert data.identify(Data(source=str(tmp_path / "in")))
    spec = TensorSpec("image", (None, 8, 8, 1), np.dtype(np.uint8))
    found = samples.read(tmp_path / "in" / ODD / f"2{ODD}.png", [spec], lambda _: 255.0)
    assert (found["image"] == 2).all()


@pytest.mark.parametrize("key", ["model.source", "data.source"])
def test_a_source_whose_name_is_not_utf_8_is_refused(key: str) -> None:
    """Libraries for models take text; other odd names will do."""
    with pytest.raises(ConfigError, match=key):
        load(None, [f"{key}={ODD}.npz"])
    whole = ODD.replace("\udcff\udcfe", "")
    assert json.dumps(f"{whole}.npz", ensure_ascii=False) in to_toml(load(None, [f"{key}={whole}.npz"]))
