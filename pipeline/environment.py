"""What this machine has, found without importing a framework."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import ClassVar

DISTRIBUTIONS = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "numpy",
    "onnx",
    "tf2onnx",
    "onnxslim",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
    "tensorrt-rtx",
    "cuda-core",
    "cuda-bindings",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "scikit-learn",
    "scipy",
    "openvino",
    "mlcommons-loadgen",
    "polygraphy",
)
"""The packages whose versions can change a result."""


STRICT = {"extra": "forbid"}
"""For Pydantic, where artifacts record these: an unknown key is an error."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as nvidia-smi reports it."""

    __pydantic_config__: ClassVar = STRICT

    name: str
    driver: str
    memory_mib: int
    compute_capability: str


@dataclass(frozen=True)
class Machine:
    """What results depend on besides packages."""

    __pydantic_config__: ClassVar = STRICT

    cpu: str
    cores: int
    system: str
    gpus: tuple[Gpu, ...]

    def __str__(self) -> str:
        names = [f"{gpu.name} (driver {gpu.driver})" for gpu in self.gpus]
        return f"{self.cpu}, {self.cores} cores; GPU: {', '.join(names) or 'none'}"

    def label(self, device: str | None) -> str:
        """Return a device's address with its name, as `cuda:0 (NVIDIA H200)`; `cpu` as it is."""
        kind, _, index = (device or "none").partition(":")
        known = kind == "cuda" and index.isdigit() and int(index) < len(self.gpus)
        return f"{device} ({self.gpus[int(index)].name})" if known else kind if device is None else device


@cache
def gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs that this process may use; empty where nvidia-smi does not answer.

    CUDA_VISIBLE_DEVICES is obeyed where it hides all of them, as `CUDA_VISIBLE_DEVICES=-1 make all` does.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return ()
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    found = []
    for line in answer.stdout.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 4:
            continue  # a remark, as "No devices were found"
        name, driver, memory, capability = parts
        # Unified-memory GPUs answer "[N/A]" for their memory.
        found.append(Gpu(name, driver, int(memory) if memory.isdigit() else 0, capability))
    return tuple(found)


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions_of(*distributions: str) -> dict[str, str]:
    """Return the versions of those of these distributions that are installed."""
    return {name: text for name in distributions if (text := version(name))}


@cache
def versions(more: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the versions of Python and of every installed package that can change a result.

    `more` are packages beside those of `DISTRIBUTIONS`: the backends know their own (`backends.distributions`).
    """
    return {"python": platform.python_version()} | versions_of(*dict.fromkeys((*DISTRIBUTIONS, *more)))


@cache
def cpu_name() -> str:
    """Return the processor's name as the system reports it."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Return how many processors this process may use, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> Machine:
    """Return this machine: processor, cores, system, GPUs with their drivers."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Machine(cpu_name(), cpu_count(), system, gpus())


_keras_on = ["tensorflow"]


def run_keras_on(backend: str) -> None:
    """Have Keras, which is yet to be imported, run on another of its backends in this process (pipeline.hosts)."""
    _keras_on[:] = [backend]
    os.environ["KERAS_BACKEND"] = backend


def prepare_tensorflow() -> None:
    """Set what TensorFlow and Keras read when they are imported; what the user has set for TensorFlow stays.

    Keras runs on TensorFlow, whatever KERAS_BACKEND or Keras's own keras.json say: what is exported is TensorFlow's.

    Its start-up log is silenced. It takes GPU memory as it needs it and not all at once: TensorRT and ONNX Runtime need
    some of the same GPU.
    """
    os.environ["KERAS_BACKEND"] = _keras_on[0]
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Without a GPU TensorFlow logs an ERROR that there is none, which here is a fact already reported in a plain line.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if gpus() else "3")


@contextmanager
def native_log_hidden() -> Iterator[None]:
    """Keep what libraries write straight to the process's standard error, unless the block raises.

    TensorFlow's import writes a dozen lines before its log level can be set.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(saved, hidden.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
