"""Who imports whom: the package keeps to its layers, and a wrong import is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run lint-imports on the package in a folder, by the contracts beside it."""
    program = "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_package_keeps_to_its_layers() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "statement", "broken"),
    [
        ("graphs/cast.py", "from pipeline import data", "graphs never reach the data"),
        ("graphs/cast.py", "from pipeline import precisions", "imports go downwards only"),
        ("backends/null.py", "from pipeline.exporters import saved_model", "imports go downwards only"),
        ("stages/report.py", "from pipeline.stages import train", "stages are independent of each other"),
        ("report/numbers.py", "from pipeline import backends", "the report never reaches the backends"),
        ("tasks/classification.py", "from pipeline import graphs", "tasks import tensors, artifacts and errors"),
        ("errors.py", "from pipeline import tensors", "the ground imports nothing of the project"),
        ("manager.py", "", "imports go downwards only"),
    ],
)
def test_a_wrong_import_and_a_module_without_a_place_are_found(
    tmp_path: Path, file: str, statement: str, broken: str
) -> None:
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "pipeline" / file).open("a", encoding="utf-8") as changed:
        changed.write(f"\n{statement}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert broken in done.stdout.partition("Broken contracts")[2], done.stdout
