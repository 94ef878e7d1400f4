"""The wheel alone, installed, does the whole main job from another folder: nothing in it needs the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from commands import QUICK, ROOT, Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with the packages of the one that runs the tests beside it.

    The wheel is built from a copy: setuptools would put what an earlier build left in `build/` into it.
    """
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "pipeline", folder / "source/pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    run([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", folder, folder / "source"])
    (wheel,) = folder.glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"])
    python = folder / "venv/bin/python"
    run([*pip, "--python", python, "install", *offline, wheel])
    answer = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    # Packages that a .pth file adds come last, and the editable install among them is not followed.
    Path(answer.stdout.strip(), "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    shutil.rmtree(folder / "source")
    return folder / "venv"


def run(command: list[str | Path], cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    found = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, f"{command}\n{found.stdout}\n{found.stderr}"
    return found


@pytest.fixture
def command(environment: Path, tmp_path: Path) -> Run:
    """Return a function that runs the console script in a folder of the test's own."""
    return lambda *arguments: run([environment / "bin/keras-tensorrt-pipeline", *arguments], tmp_path)


def test_what_is_run_is_the_wheel(environment: Path, tmp_path: Path) -> None:
    statement = "import pipeline.stages.report; print(pipeline.stages.report.__file__)"
    assert Path(run([environment / "bin/python", "-c", statement], tmp_path).stdout.strip()).is_relative_to(environment)


def test_every_module_and_every_file_beside_them_is_in_the_wheel(environment: Path) -> None:
    (package,) = environment.glob("lib/python*/site-packages/pipeline")
    installed = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
    source = {path.relative_to(ROOT / "pipeline") for path in (ROOT / "pipeline").rglob("*") if path.is_file()}
    ours = {path for path in source if "__pycache__" not in path.parts}
    assert ours <= installed


def test_help_and_doctor_answer(command: Run) -> None:
    assert "benchmark" in command("--help").stdout
    assert json.loads(command("doctor", "--json").stdout)["conflicts"] == []


@pytest.mark.long
def test_the_main_job_runs_from_another_folder(command: Run, tmp_path: Path) -> None:
    little = ("--set=train.epochs=1", "--set=engine.precisions=fp32", "--set=benchmark.batch_sizes=16")
    command("all", *QUICK, *little)
    report = tmp_path / "artifacts/report"
    assert "<svg" in (report / "index.html").read_text(encoding="utf-8")
    assert (report / "report.md").read_text(encoding="utf-8").startswith("# ")
    command("deploy", *QUICK, *little)
    assert "are as they were made" in command("verify").stdout
