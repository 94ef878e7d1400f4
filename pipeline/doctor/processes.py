"""Asking a library what it can do here, in a process of its own: an import takes seconds, CUDA can end a process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import Field, ValidationError

from pipeline import environment, interruption
from pipeline.artifacts.record import Record

TIMEOUT_S = 60


class TensorFlowFound(Record):
    """What TensorFlow says of itself, or why it does not answer."""

    version: str | None = None
    gpus: tuple[str, ...] = ()
    error: str = ""


class OnnxRuntimeFound(Record):
    """What ONNX Runtime says of itself, or why it does not answer."""

    version: str | None = None
    built_in: tuple[str, ...] = ()
    """Providers of this build."""
    loaded: tuple[str, ...] = ()
    """Those of them that ran a graph here."""
    error: str = ""


class ExportersFound(Record):
    """The versions of what each exporter works with, and why those that cannot be used here cannot."""

    versions: dict[str, dict[str, str]] = Field(default_factory=dict)
    unavailable: dict[str, str] = Field(default_factory=dict)
    error: str = ""


Found = TypeVar("Found", TensorFlowFound, OnnxRuntimeFound, ExportersFound)


@contextmanager
def started(library: str, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Start `pipeline.doctor.probe_<library>`, which ends with the block at the latest."""
    environment.prepare_tensorflow()
    process = None
    try:
        with interruption.deferred():
            process = subprocess.Popen(
                [sys.executable, "-m", f"pipeline.doctor.probe_{library}", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        yield process
    finally:
        if process is not None:
            process.kill()
            process.communicate()


def finish(process: "subprocess.Popen[str]", kind: type[Found]) -> Found:
    """Return what a probe printed, or the last line of what went wrong."""
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return kind(error=f"no answer within {TIMEOUT_S} s")
    if process.returncode:
        lines = errors.strip().splitlines()
        return kind(error=lines[-1] if lines else f"ended with exit code {process.returncode}")
    try:
        return kind.model_validate(json.loads((output.splitlines() or [""])[-1]))
    except (json.JSONDecodeError, ValidationError) as error:
        return kind(error=f"its answer cannot be read: {error}")
