"""The engine stage while engines are built: what ends it, what a builder's crash costs, and features of engines."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from commands import started
from crashing import counted
from small_models import Stage

from pipeline import environment
from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.store import Store
from pipeline.backends.tensorrt import build
from pipeline.environment import Gpu
from pipeline.errors import BuildError, ConfigError
from pipeline.stages import engine

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.skipif(build.installed_version("tensorrt-rtx") is None, reason="TensorRT for RTX is not installed"),
]

H200 = Gpu("NVIDIA H200", "550.54", 143771, "9.0")
RTX = {"engine.flavour": "tensorrt-rtx"}


def building(pid: int) -> Iterator[int]:
    """Yield the processes of `pid` that build an engine."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text(encoding="utf-8").split():
            if b"pipeline.backends.tensorrt.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield int(child)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupted_build_ends_at_once_and_publishes_nothing(
    number: signal.Signals, whole_group: bool, stage: Stage, tmp_path: Path
) -> None:
    stage("train")
    stage("export")
    options = ("--set=data.source=d.npz", "--set=model.source=m.keras", "--set=engine.flavour=tensorrt-rtx")
    with started("engine", *options, cwd=tmp_path, until="flavour: tensorrt-rtx") as process:
        ends = time.monotonic() + 60
        while not (found := list(building(process.pid))):
            assert time.monotonic() < ends
            time.sleep(0.02)
        os.kill(found[0], signal.SIGSTOP)  # a build that takes for ever
        (os.killpg if whole_group else os.kill)(process.pid, number)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number, output + errors
        assert not Path(f"/proc/{found[0]}").exists()
    assert "interrupted; what was published before is unchanged" in errors
    assert "Traceback" not in errors
    left = {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert not {name for name in left if "engine" in name}, left


def test_a_crash_of_the_builder_is_a_failed_engine(stage: Stage, tmp_path: Path) -> None:
    """The graph of `keras.ops.bincount`, which TensorRT for RTX 1.7.1 dies of in most tries, and refuses in others."""
    onnx.save(counted(), tmp_path / "counted.onnx")
    random = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=random.integers(0, 9, (60, 6)).astype(np.int32))
    chosen = RTX | {"model.source": "counted.onnx", "engine.precisions": "fp32"}
    stage("train", chosen)
    stage("export", chosen)
    with pytest.raises(BuildError, match=r"fp32: engine/fp32/model\.onnx: TensorRT"):
        stage("engine", chosen)
    record = EngineRecord.read(tmp_path / "artifacts/engine/fp32/engine.json")
    assert record.status == "failed"
    assert "builder crashed: SIGSEGV" in record.reason or "must be a build time constant" in record.reason
    assert record.onnx is not None
    assert record.engine is None


@pytest.mark.parametrize(
    ("flavour", "gpus", "name", "warned"),
    [
        ("tensorrt", (H200,), "tensorrt-11.4.0_NVIDIA-H200_9.0_driver-550.54.cache", ""),
        ("tensorrt", (), None, "no timing cache: nvidia-smi tells neither the GPU nor its driver"),
        ("tensorrt-rtx", (H200,), None, ""),
    ],
)
def test_tensorrt_has_a_timing_cache_that_stays(
    flavour: str, gpus: tuple[Gpu, ...], name: str | None, warned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "gpus", lambda: gpus)
    monkeypatch.setattr(build, "installed_version", lambda flavour: "11.4.0")
    folder, words = Store(tmp_path).timing_cache(), list[str]()
    context = SimpleNamespace(timing_cache=folder, warn=words.append)
    found = engine._timing_cache(context, flavour)  # type: ignore[arg-type]
    assert found == (folder / name if name else None)
    assert words == ([warned] if warned else [])
    assert folder != Store(tmp_path).kept("engine")


def test_features_are_asked_for_and_recorded(stage: Stage, tmp_path: Path) -> None:
    stage("train")
    stage("export")
    chosen = RTX | {"engine.precisions": "fp32", "engine.features": "version-compatible"}
    assert "features of the engines: version-compatible" in stage("engine", chosen)
    record = EngineRecord.read(tmp_path / "artifacts/engine/fp32/engine.json")
    assert record.features == ("version-compatible",)
    assert record.features_taken == ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")
    assert record.timing_cache is None
    assert 0 < record.build_phases["Building engine"] < (record.build_seconds or 0)
    with pytest.raises(ConfigError, match="one level of hardware compatibility"):
        stage("engine", RTX | {"engine.features": "ampere-plus,same-compute-capability"})
    with pytest.raises(ConfigError, match="setHardwareCompatibilityLevel"):
        stage("engine", RTX | {"engine.features": "ampere-plus"})
    assert EngineRecord.read(tmp_path / "artifacts/engine/fp32/engine.json") == record
