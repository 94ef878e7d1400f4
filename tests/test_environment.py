"""What the machine has."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import environment
from pipeline.environment import Gpu


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Forget what nvidia-smi said, before the test and after it."""
    environment.gpus.cache_clear()
    yield
    environment.gpus.cache_clear()


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> Path:
    """Return where a shell script stands in for nvidia-smi and for the hardware, which no test can count on."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "nvidia-smi"


def script(file: Path, output: str, code: int = 0) -> None:
    file.with_suffix(".txt").write_text(output)
    file.write_text(f"#!/bin/sh\ncat '{file.with_suffix('.txt')}'\nexit {code}\n")
    file.chmod(0o755)


def test_versions_are_those_of_python_and_the_installed_packages() -> None:
    found = environment.versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert environment.version("no-such-distribution") is None
    assert all(found.values())


def test_every_gpu_that_nvidia_smi_names_is_found(nvidia_smi: Path) -> None:
    script(nvidia_smi, "NVIDIA L4, 570.86.15, 23034, 8.9\nNVIDIA GB10, 580.95.05, [N/A], 12.1")
    expected = (Gpu("NVIDIA L4", "570.86.15", 23034, "8.9"), Gpu("NVIDIA GB10", "580.95.05", 0, "12.1"))
    assert environment.gpus() == expected
    described = str(environment.machine())
    assert "NVIDIA L4 (driver 570.86.15), NVIDIA GB10 (driver 580.95.05)" in described


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9),
        ("NVIDIA L4, 570.86.15, 23034, 8.9", 1),
        ("No devices were found", 0),
        ("", 0),
    ],
)
def test_there_is_no_gpu_where_nvidia_smi_names_none(nvidia_smi: Path, output: str, code: int) -> None:
    script(nvidia_smi, output, code)
    assert environment.gpus() == ()


@pytest.mark.parametrize("hidden", ["-1", "", " -1 "])
def test_no_gpu_is_found_where_all_are_hidden(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    script(nvidia_smi, "NVIDIA L4, 570.86.15, 23034, 8.9")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert environment.gpus() == ()
    assert str(environment.machine()).endswith("GPU: none")


def test_no_gpu_is_found_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment.gpus() == ()


def test_what_the_user_set_for_tensorflow_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = ("TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH")
    for variable in variables:
        monkeypatch.setenv(variable, "as set")
    environment.prepare_tensorflow()
    assert [os.environ[variable] for variable in variables] == ["as set", "as set"]
    for variable in variables:
        monkeypatch.delenv(variable)
    environment.prepare_tensorflow()
    assert [os.environ[variable] for variable in variables] == ["2" if environment.gpus() else "3", "true"]


def test_what_a_library_writes_to_standard_error_is_hidden(capfd: pytest.CaptureFixture[str]) -> None:
    with environment.native_log_hidden():
        os.write(2, b"noise\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_what_a_library_wrote_is_shown_where_the_block_raises(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with environment.native_log_hidden():
            os.write(2, b"the reason\n")
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


def test_hiding_leaves_no_file_open() -> None:
    def lowest_free() -> int:
        descriptor = os.dup(2)
        os.close(descriptor)
        return descriptor

    before = lowest_free()
    with environment.native_log_hidden():
        pass
    assert lowest_free() == before
