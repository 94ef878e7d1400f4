"""Shared: the `gpu` marker, a data set small enough for a test, and one run of the whole main job on the digits."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import MAIN_JOB, Run, run_pipeline
from filelock import FileLock

from pipeline import backends, environment
from pipeline.errors import BackendUnavailable

LONGEST = (
    *(
        "test_pipeline",
        "test_hosts",
        "test_own_models",
        "test_loadgen",
        "test_mnist",
        "test_a_new_backend",
        "test_wheel",
    ),
    *("test_optimizing", "test_trying_it", "test_training", "test_scoring_by_ray", "test_examples", "test_under_load"),
    *("test_several_outputs", "test_killed_scoring", "test_in_browser", "test_contract", "test_page", "test_pytorch"),
    *("test_divergence", "test_cli", "test_layers", "test_gpu_check"),
    *("test_serving", "test_records", "test_runners", "test_declared"),
)
"""Modules to begin with where there are several processes, so that at the end none is left alone with a long one.

Those that need the main job take turns with those that do not: while one process makes it, the next need not wait.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of what is not here: a GPU (a failure with REQUIRE_GPU=1), PyTorch's exporter, a tritonserver."""
    if item.get_closest_marker("pytorch"):
        from pipeline.exporters.pytorch import venv  # imports Keras, which most tests do without

        try:
            venv.versions()
        except BackendUnavailable as error:
            pytest.skip(str(error))
    if item.get_closest_marker("triton"):
        from benchmarks.triton import venv as triton

        try:
            triton.environment()
        except BackendUnavailable as error:
            pytest.skip(str(error))
    if item.get_closest_marker("gpu") and not environment.gpus():
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail("REQUIRE_GPU=1, and nvidia-smi finds no GPU")
        pytest.skip("no NVIDIA GPU on this machine")


@pytest.fixture
def pipeline(tmp_path: Path) -> Run:
    """Return a function that runs `python -m pipeline …` in a folder of the test's own."""

    def run(*arguments: str, cwd: Path = tmp_path, **variables: str) -> "subprocess.CompletedProcess[str]":
        return run_pipeline(*arguments, cwd=cwd, **variables)

    return run


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every stage and `deploy` once on the digits, with short timings; return the folder. Read only.

    All of pytest's processes share it: the first that needs it makes it, and the others wait.
    """
    if importlib.util.find_spec("tensorflow") is None:  # as on a GPU machine that has hardly anything
        pytest.skip("TensorFlow is not installed")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / "main_job", shared / "main_job" / "done"
    with FileLock(shared / "main_job.lock"):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            for command in ("all", "deploy"):
                run = run_pipeline(command, *MAIN_JOB, cwd=folder)
                assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
            done.touch()
    return folder


@pytest.fixture(scope="session")
def bundle(main_job: Path) -> Path:
    """The bundle that the main job deployed, unsigned. Read only."""
    return main_job / "artifacts/deploy/bundle"


@pytest.fixture
def cuda_provider() -> None:
    """Skip where this ONNX Runtime is the build without CUDA: that says nothing of the GPU."""
    try:
        backends.get("onnxruntime").probe("cuda")
    except BackendUnavailable as error:
        pytest.skip(error.message)


@pytest.fixture
def copy(main_job: Path, tmp_path: Path) -> Path:
    """A copy of the main job's artifacts that a test may change."""
    shutil.copytree(main_job / "artifacts", tmp_path / "artifacts")
    return tmp_path


@pytest.fixture
def random() -> np.random.Generator:
    """Return a seeded generator."""
    return np.random.default_rng(0)
