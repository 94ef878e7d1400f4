"""Which libraries can be imported here, and which GPUs they see: each asked in a process of its own."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.gpu_check.records import Library

LIGHT = (
    *("numpy", "ml_dtypes", "onnx", "onnxslim", "keras", "pydantic", "typer", "rich", "filelock", "scipy", "sklearn"),
    *("jinja2", "altair", "vl_convert", "pytest", "hypothesis", "polygraphy"),
)
HEAVY = ("tensorflow", "jax", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda.core", "pynvml")

TIMEOUT_S = 120

GPUS: dict[str, Callable[[Any], list[str]]] = {
    "tensorflow": lambda tf: [
        tf.config.experimental.get_device_details(one).get("device_name", one.name)
        for one in tf.config.list_physical_devices("GPU")
    ],
    "jax": lambda jax: [one.device_kind for one in jax.devices() if one.platform == "gpu"],
    "onnxruntime": lambda ort: [one for one in ort.get_available_providers() if one == "CUDAExecutionProvider"],
}
"""How each says which GPUs it sees; ONNX Runtime only says whether it was built with CUDA."""


def look() -> tuple[Library, ...]:
    """Import every library; those that are quick and harmless in one process."""
    # Keras is asked for itself, whatever it would compute with; each process of the check chooses that for its own.
    groups = [(LIGHT, {"KERAS_BACKEND": "numpy"}), *(((name,), {}) for name in HEAVY)]
    started = [(names, _start(names, os.environ | variables)) for names, variables in groups]
    try:
        return tuple(one for names, process in started for one in _finish(names, process))
    finally:
        for _, process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _start(names: tuple[str, ...], variables: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.gpu_check.libraries", *names]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True, env=variables)


def _finish(names: tuple[str, ...], process: "subprocess.Popen[str]") -> list[Library]:
    try:
        said, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [Library(name, error=f"no answer within {TIMEOUT_S} s") for name in names]
    if process.returncode:
        last = (errors.strip().splitlines() or [""])[-1]
        return [Library(name, error=f"its import ended with exit code {process.returncode}: {last}") for name in names]
    return [Library(**one) for one in json.loads(said.splitlines()[-1])]


def _imported(name: str) -> Library:
    try:
        module = importlib.import_module(name)
        gpus = GPUS[name](module) if name in GPUS else []
    except Exception as error:  # a library may raise anything at all when it does not load
        return Library(name, error=f"{type(error).__name__}: {error}")
    return Library(name, version=str(getattr(module, "__version__", "")), gpus=", ".join(gpus))


if __name__ == "__main__":
    print(json.dumps([asdict(_imported(name)) for name in sys.argv[1:]]))
