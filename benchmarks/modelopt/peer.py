"""Model Optimizer in an environment of its own: where that is, and having it make a graph."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from pipeline.errors import BackendUnavailable, BuildError
from pipeline.tensors import Feed

FOLDER = ".venv-modelopt"
"""Below the working directory, or beside the environment that runs the benchmark."""

PACKAGES = ("nvidia-modelopt", "onnx", "onnxruntime-gpu")

METHODS = {"fp16": ("",), "int8": ("entropy", "max"), "fp8": ("entropy", "max")}
"""Its calibration methods for each precision, its default first."""

TIMEOUT_S = 3600


class Made(NamedTuple):
    """A graph of Model Optimizer's, how long it took, and the versions of its packages."""

    model: onnx.ModelProto
    seconds: float
    versions: dict[str, str]


def python() -> Path:
    """Return the environment's Python.

    Raises:
        BackendUnavailable: there is none.
    """
    program = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
    for above in (Path.cwd(), Path(sys.prefix).parent):
        if (above / FOLDER / program).is_file():
            return above / FOLDER / program
    raise BackendUnavailable(f"Model Optimizer is not set up: there is no {FOLDER}/", "Run `make modelopt`.")


def make(exported: Path, precision: str, method: str, samples: Feed, output: Path) -> Made:
    """Have Model Optimizer rewrite an FP32 graph.

    Args:
        exported: the FP32 graph.
        precision: one of `METHODS`.
        method: one of the precision's calibration methods.
        samples: what to calibrate with, [samples, …] by input.
        output: where its graph is written.

    Raises:
        BackendUnavailable: its environment is not there.
        BuildError: it failed, with its last words.
    """
    interpreter = python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "samples.npz", allow_pickle=False, **samples)
        # It writes beside the model, so that it gets one of its own.
        (folder / "model.onnx").write_bytes(exported.read_bytes())
        asked = {
            "model": str(folder / "model.onnx"),
            "precision": precision,
            "method": method,
            "samples": str(folder / "samples.npz"),
            "output": str(folder / "typed.onnx"),
            "packages": PACKAGES,
        }
        request, answer = folder / "request.json", folder / "answer.json"
        request.write_text(json.dumps(asked), encoding="utf-8")
        command = [str(interpreter), "-P", str(Path(__file__).with_name("child.py")), str(request), str(answer)]
        own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"CUDA_VISIBLE_DEVICES": ""}
        try:
            done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"Model Optimizer took longer than {TIMEOUT_S} s and was ended") from error
        if not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise BuildError(f"Model Optimizer ended with exit code {done.returncode}: {last}")
        output.write_bytes((folder / "typed.onnx").read_bytes())
        found = json.loads(answer.read_text(encoding="utf-8"))
    return Made(onnx.load(output), found["seconds"], found["versions"])
