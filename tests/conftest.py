"""Shared: the `gpu` marker, a data set small enough for a test, and one run of the whole main job on the digits."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import environment

ROOT = Path(__file__).parent.parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = (
    "--set=data.name=digits",
    "--set=benchmark.batch_sizes=1,16",
    "--set=benchmark.min_duration_s=0.05",
    "--set=benchmark.warmup_s=0.01",
    "--set=benchmark.min_samples=5",
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip `gpu` tests where there is none; with REQUIRE_GPU=1 that is a failure."""
    if item.get_closest_marker("gpu") and not environment.gpus():
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail("REQUIRE_GPU=1, and nvidia-smi finds no GPU")
        pytest.skip("no NVIDIA GPU on this machine")


def run_pipeline(
    *arguments: str, cwd: Path, timeout: float = 300, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m pipeline` as a user does, in `cwd`."""
    environment_variables = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env=environment_variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def pipeline(tmp_path: Path) -> Run:
    """Return a function that runs `python -m pipeline …` in a folder of the test's own."""

    def run(*arguments: str, cwd: Path = tmp_path, **variables: str) -> "subprocess.CompletedProcess[str]":
        return run_pipeline(*arguments, cwd=cwd, **variables)

    return run


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every stage once on the digits, with short timings; return the folder that has `artifacts/`. Read only."""
    folder = tmp_path_factory.mktemp("main_job")
    for stage in ("train", "export", "engine", "validate", "benchmark", "report"):
        done = run_pipeline(stage, *QUICK, cwd=folder)
        assert done.returncode == 0, f"{stage}: {done.stdout}\n{done.stderr}"
    return folder


@pytest.fixture
def random() -> np.random.Generator:
    """Return a seeded generator."""
    return np.random.default_rng(0)
