"""What doctor says of an environment: made-up findings, since no machine has all of them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline import doctor as diagnosis

ROOT = Path(__file__).parent.parent
GPU = {"name": "NVIDIA L4", "driver": "570.86.15", "memory_mib": 23034, "compute_capability": "8.9"}
CUDA = {"nvidia-cudnn-cu12": "9.20.0", "onnxruntime-gpu": "1.26.0"}


def found(versions: dict[str, str], gpus: int = 1, loaded: tuple[str, ...] = ()) -> dict[str, Any]:
    runtime = versions.get("onnxruntime-gpu") or versions.get("onnxruntime")
    return {
        "versions": versions,
        "machine": {"gpus": [GPU] * gpus},
        "tensorflow": {"version": "2.21.0", "gpus": ["NVIDIA L4"] * gpus},
        "onnxruntime": {"version": runtime, "loaded": loaded} if runtime else {"error": "No module named onnxruntime"},
        "tensorrt": {},
    }


def test_setup_names_the_one_onnx_runtime_and_what_make_would_take() -> None:
    assert diagnosis._setup(found({"onnxruntime": "1.32.0"}, gpus=0)) == (
        "extra none, onnxruntime 1.32.0; `make setup` would take none, with onnxruntime: nvidia-smi does not answer"
    )
    assert diagnosis._setup(found(CUDA | {"tensorrt-cu12": "11.4.0.106"})) == (
        "extra gpu, onnxruntime-gpu 1.26.0; `make setup` would take gpu, with onnxruntime-gpu: nvidia-smi answers"
    )
    assert "no ONNX Runtime" in diagnosis._setup(found({}, gpus=0))


@pytest.mark.parametrize(("gpus", "wanted"), [(0, diagnosis.RUNTIME), (1, diagnosis.CUDA_RUNTIME)])
def test_two_onnx_runtimes_are_a_conflict_with_its_remedy(gpus: int, wanted: str) -> None:
    (conflict,) = diagnosis._conflicts(found(CUDA | {"onnxruntime": "1.32.0"}, gpus))
    assert "fill the same folder" in conflict
    assert f"`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install --no-deps '{wanted}'`" in conflict


def test_a_build_for_cuda_13_beside_tensorflows_cuda_12_is_a_conflict() -> None:
    (conflict,) = diagnosis._conflicts(found(CUDA | {"onnxruntime-gpu": "1.31.1"}))
    assert "onnxruntime-gpu 1.31.1 is built for CUDA 13" in conflict
    assert diagnosis.CUDA_RUNTIME in conflict


@pytest.mark.parametrize("versions", [CUDA, {"onnxruntime": "1.32.0"}])
def test_one_onnx_runtime_is_no_conflict(versions: dict[str, str]) -> None:
    assert diagnosis._conflicts(found(versions)) == []


def test_on_a_gpu_the_build_without_cuda_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    (missing,) = diagnosis._missing(found({"onnxruntime": "1.32.0"}))
    assert missing.endswith("there is none for CUDA 12 and this processor")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (missing,) = diagnosis._missing(found({"onnxruntime": "1.32.0"}))
    assert "the build without CUDA" in missing
    assert diagnosis.CUDA_RUNTIME in missing


def test_what_the_older_build_costs_is_told() -> None:
    (missing,) = diagnosis._missing(found(CUDA, loaded=("CUDAExecutionProvider",)))
    assert "ONNX Runtime 1.26.0 lacks: load only models that you trust" in missing
    assert "pip" not in missing
    missing, _ = diagnosis._missing(found(CUDA, gpus=0))
    assert diagnosis.RUNTIME in missing


def test_pip_make_and_doctor_name_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert diagnosis.RUNTIME in project["dependencies"]
    for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
        assert not any("onnxruntime-gpu" in requirement for requirement in requirements), "pip would install both"
    assert f"CUDA_RUNTIME := {diagnosis.CUDA_RUNTIME}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = f"pip uninstall --yes onnxruntime\n.venv/bin/python -m pip install --no-deps '{diagnosis.CUDA_RUNTIME}'"
    assert recipe in (ROOT / "README.md").read_text(encoding="utf-8")
