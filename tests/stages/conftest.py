"""Stages run in this process, on a tiny model and its data: what is refused, and that nothing is lost by it."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_models import Refused, Stage, classifier, labels, samples

from pipeline.config.loading import load
from pipeline.errors import PipelineError
from pipeline.stages import STAGES
from pipeline.workflow import run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a model that is the same for all tests."""
    path = tmp_path_factory.mktemp("trained") / "m.keras"
    classifier().save(path)
    return path


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path) -> Stage:
    """Return a function that runs a stage in a folder of the test's own, with `d.npz` and `m.keras` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    np.savez("d.npz", x=samples(), y=labels())
    shutil.copyfile(trained, "m.keras")

    def go(name: str, options: dict[str, object] | None = None) -> str:
        console = Console(file=io.StringIO(), width=200)
        chosen = {"data.source": "d.npz", "model.source": "m.keras", "engine.tune": False} | (options or {})
        run.run(STAGES[name], load(None, (), chosen), console)
        return console.file.getvalue()  # type: ignore[attr-defined]

    return go


@pytest.fixture
def refused(stage: Stage, tmp_path: Path) -> Refused:
    """Return a function that runs a stage with bad input, where `train` has published something before."""
    stage("train")

    def go(name: str, options: dict[str, object] | None = None) -> PipelineError:
        before = digests(tmp_path / "artifacts")
        with pytest.raises(PipelineError) as caught:
            stage(name, options)
        assert caught.value.message
        assert "Traceback" not in str(caught.value)
        assert digests(tmp_path / "artifacts") == before, "what was published before is still there, and no more"
        return caught.value

    return go


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every published file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }
