"""What doctor says of an environment: made-up findings, since no machine has all of them."""

import tomllib
from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.doctor import Findings
from pipeline.doctor.processes import ExportersFound, OnnxRuntimeFound, TensorFlowFound
from pipeline.environment import Gpu, Machine

ROOT = Path(__file__).parent.parent
GPU = Gpu("NVIDIA L4", "570.86.15", 23034, "8.9")
CUDA = {"nvidia-cudnn-cu12": "9.20.0", "onnxruntime-gpu": "1.26.0"}


def found(versions: dict[str, str], gpus: int = 1, loaded: tuple[str, ...] = ()) -> Findings:
    runtime = versions.get("onnxruntime-gpu") or versions.get("onnxruntime")
    return Findings(
        machine=Machine("a processor", 2, "Linux", (GPU,) * gpus),
        versions=versions,
        tensorflow=TensorFlowFound(version="2.21.0", gpus=("NVIDIA L4",) * gpus),
        onnxruntime=OnnxRuntimeFound(version=runtime, loaded=loaded, error="" if runtime else "No module named …"),
        tensorrt={},
        backends={},
        exporters=ExportersFound(),
    )


def test_setup_names_the_one_onnx_runtime_and_what_make_would_take() -> None:
    assert doctor.setup(found({"onnxruntime": "1.32.0"}, gpus=0)) == (
        "extra none, onnxruntime 1.32.0; `make setup` would take none, with onnxruntime: nvidia-smi does not answer"
    )
    assert doctor.setup(found(CUDA | {"tensorrt-cu12": "11.4.0.106"})) == (
        "extra gpu, onnxruntime-gpu 1.26.0; `make setup` would take gpu, with onnxruntime-gpu: nvidia-smi answers"
    )
    assert "no ONNX Runtime" in doctor.setup(found({}, gpus=0))


@pytest.mark.parametrize(("gpus", "wanted"), [(0, doctor.RUNTIME), (1, doctor.CUDA_RUNTIME)])
def test_two_onnx_runtimes_are_a_conflict_with_its_remedy(gpus: int, wanted: str) -> None:
    (conflict,) = doctor.conflicts(found(CUDA | {"onnxruntime": "1.32.0"}, gpus))
    assert "fill the same folder" in conflict
    assert f"`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install --no-deps '{wanted}'`" in conflict


def test_a_build_for_cuda_13_beside_tensorflows_cuda_12_is_a_conflict() -> None:
    (conflict,) = doctor.conflicts(found(CUDA | {"onnxruntime-gpu": "1.31.1"}))
    assert "onnxruntime-gpu 1.31.1 is built for CUDA 13" in conflict
    assert doctor.CUDA_RUNTIME in conflict


@pytest.mark.parametrize("versions", [CUDA, {"onnxruntime": "1.32.0"}])
def test_one_onnx_runtime_is_no_conflict(versions: dict[str, str]) -> None:
    assert doctor.conflicts(found(versions)) == []


def test_on_a_gpu_the_build_without_cuda_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    (missing,) = doctor.missing(found({"onnxruntime": "1.32.0"}))
    assert missing.endswith("there is none for CUDA 12 and this processor")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (missing,) = doctor.missing(found({"onnxruntime": "1.32.0"}))
    assert "the build without CUDA" in missing
    assert doctor.CUDA_RUNTIME in missing


def test_what_the_older_build_costs_is_reported() -> None:
    (missing,) = doctor.missing(found(CUDA, loaded=("CUDAExecutionProvider",)))
    assert "ONNX Runtime 1.26.0 lacks: load only models that you trust" in missing
    assert "pip" not in missing
    missing, _ = doctor.missing(found(CUDA, gpus=0))
    assert doctor.RUNTIME in missing


def test_pip_make_and_doctor_name_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert doctor.RUNTIME in project["dependencies"]
    for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
        assert not any("onnxruntime-gpu" in requirement for requirement in requirements), "pip would install both"
    assert f"CUDA_RUNTIME := {doctor.CUDA_RUNTIME}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = f"pip uninstall --yes onnxruntime\n.venv/bin/python -m pip install --no-deps '{doctor.CUDA_RUNTIME}'"
    assert recipe in (ROOT / "docs/gpu-server.md").read_text(encoding="utf-8")
