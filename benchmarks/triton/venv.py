"""The environment that NVIDIA's PyTriton lies in, whose wheel has a whole `tritonserver`."""

import sys
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import BackendUnavailable

FOLDER = ".venv-triton"
"""Below the working directory, or beside the environment that runs the benchmark."""

SET_UP = "Run `make triton` (about 800 MB)."


class Environment(NamedTuple):
    """Where its parts are."""

    python: Path
    site: Path
    triton: Path
    stub: Path
    """The process that Triton's Python backend runs a model in, for this Python."""


def environment() -> Environment:
    """Return the environment.

    Raises:
        BackendUnavailable: there is none, or it has no tritonserver.
    """
    for above in (Path.cwd(), Path(sys.prefix).parent):
        for site in (above / FOLDER).glob("lib/python3.*/site-packages"):
            triton = site / "pytriton" / "tritonserver"
            version = site.parent.name.removeprefix("python")
            stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
            if (triton / "bin" / "tritonserver").is_file() and stub.is_file():
                return Environment(above / FOLDER / "bin" / "python", site, triton, stub)
    raise BackendUnavailable(f"tritonserver is not set up: there is no {FOLDER}/ with nvidia-pytriton", SET_UP)
