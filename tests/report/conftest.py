"""Shared: a small run that was made and not measured."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import made_run
import pytest

from pipeline.report import drawing


@pytest.fixture(autouse=True, scope="package")
def one_process_that_draws() -> Iterator[None]:
    """Spare each figure the start of a process of its own."""
    with drawing.process():
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a small run. Read only."""
    root = tmp_path_factory.mktemp("made") / "artifacts"
    made_run.make(root)
    return root


@pytest.fixture(scope="session")
def html(main_job: Path) -> str:
    """The page of the main job."""
    return (main_job / "artifacts/report/index.html").read_text(encoding="utf-8")


@pytest.fixture
def artifacts(copy: Path) -> Path:
    """The artifacts of the main job, which a test may change."""
    return copy / "artifacts"


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Path:
    """The artifacts of a small run that a test may change."""
    return Path(shutil.copytree(made_once, tmp_path / "made"))
