"""The Python environment that PyTorch lies in: where it is, what is in it, and running the exporter there."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline import environment
from pipeline.errors import BackendUnavailable, BuildError

VARIABLE = "PIPELINE_PYTORCH_PYTHON"
"""Names the environment's Python, where it is not in a folder `FOLDER`."""

FOLDER = ".venv-pytorch"
"""Below the working directory, or beside the environment that runs the pipeline."""

PACKAGES = ("torch", "onnxscript", "keras", "onnx")

SET_UP = (
    "PyTorch's exporter is set up with `make pytorch-exporter` (about 1 GB with PyTorch's build for the CPU; "
    "docs/own-models.md)."
)

TIMEOUT_S = 1800

MEMORY_BYTES, MEMORY_TIMES_WEIGHTS = 4 << 30, 10
"""What the process may take. Measured: 0.5 GB, and six times the weights."""

_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def python() -> Path:
    """Return the environment's Python.

    Raises:
        BackendUnavailable: there is none.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_file():
            raise BackendUnavailable(f"{VARIABLE} = {named} is no Python", SET_UP)
        return Path(named)
    program = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
    for above in (Path.cwd(), Path(sys.prefix).parent):
        if (above / FOLDER / program).is_file():
            return above / FOLDER / program
    raise BackendUnavailable(f"PyTorch's exporter is not set up: there is no {FOLDER}/", SET_UP)


def versions() -> dict[str, str]:
    """Return the versions of what the exporter works with.

    Raises:
        BackendUnavailable: there is no environment, or it lacks a package, or has another Keras than this one.
    """
    found = _ask(python())
    if missing := [name for name in PACKAGES if name not in found]:
        raise BackendUnavailable(f"PyTorch's environment ({python().parent}) lacks {', '.join(missing)}", SET_UP)
    ours = environment.version("keras")
    if found["keras"] != ours:
        raise BackendUnavailable(f"PyTorch's environment has Keras {found['keras']}, and this one {ours}", SET_UP)
    return found


def _ask(interpreter: Path) -> dict[str, str]:
    command = [str(interpreter), "-P", "-c", _VERSIONS, *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise BackendUnavailable(f"{interpreter} does not answer: {error}", SET_UP) from error
    return found


def memory_for(weights_bytes: int) -> int:
    """Return how many bytes the process may take for a model with this many bytes of weights."""
    return MEMORY_BYTES + MEMORY_TIMES_WEIGHTS * weights_bytes


def run(request: Path, answer: Path) -> None:
    """Run the exporter on a request; what it answers is in a file afterwards.

    Raises:
        BackendUnavailable: as `python`.
        BuildError: it did not answer: it took too long, or ended before.
    """
    own = {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": _with_working_directory()}
    command = [str(python()), "-P", str(Path(__file__).with_name("child.py")), str(request), str(answer)]
    try:
        done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"export: PyTorch's exporter took longer than {TIMEOUT_S} s and was ended") from error
    if not answer.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BuildError(
            f"export: PyTorch's exporter ended with exit code {done.returncode}: {last}",
            "A negative one is a signal; -6 and -9 mostly mean that memory ran out.",
        )


def _with_working_directory() -> str:
    return os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path.cwd()))))
