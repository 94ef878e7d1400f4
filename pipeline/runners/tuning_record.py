"""Plans: with how many threads, and in what pieces, this machine runs batches of a size best.

The engine stage finds them and keeps them beside the graph. A plan is true of one machine, one graph
and one version of the library; elsewhere it is left aside, with the reason.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from pipeline import artifacts, environment
from pipeline.backends import Step
from pipeline.errors import first_line

SCHEMA = 1
FILE = "plan.json"


class Plan(NamedTuple):
    """The steps to give to `LoadOptions.plan`; where there are none, `reason` says why."""

    steps: tuple[Step, ...]
    reason: str = ""


def describe(onnx_sha256: str, tuned: Mapping[str, tuple[tuple[Step, ...], list[dict[str, Any]]]]) -> dict[str, Any]:
    """Return the content of `plan.json`: the steps of each variant, what was measured, and for what they are true."""
    return {
        "schema": SCHEMA,
        "machine": _machine(),
        "onnx_sha256": onnx_sha256,
        "versions": {library: _version(library) for library in dict.fromkeys(map(_library, tuned))},
        "variants": {
            variant: {"steps": [asdict(step) for step in found], "measured": measured}
            for variant, (found, measured) in tuned.items()
        },
    }


class _Step(BaseModel, extra="forbid"):
    batch: int = Field(ge=1)
    threads: int | None = Field(ge=1)
    chunk: int | None = Field(ge=1)
    streams: int = Field(ge=1)


class _Variant(BaseModel):
    steps: list[_Step]


class _File(BaseModel):
    schema_: Literal[1] = Field(alias="schema")
    machine: dict[str, Any]
    onnx_sha256: str
    versions: dict[str, str | None]
    variants: dict[str, _Variant]


def read(path: Path, variant: str, onnx_sha256: str | None) -> Plan:
    """Read a plan; there are no steps, and the reason, where it is missing or was made for something else."""
    try:
        file = _File.model_validate(artifacts.read_json(path))
    except FileNotFoundError:
        return Plan((), "no plan was made: the engine stage tunes where engine.tune is true")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        return Plan((), f"{path} is no plan: {first_line(error)}")
    if file.onnx_sha256 != onnx_sha256:
        return Plan((), "the plan is of another graph")
    here = _machine()
    for key in ("cpu", "cores") if variant == "cpu" else here:
        if file.machine.get(key) != here[key]:
            return Plan((), f"the plan is of another machine: {key} {file.machine.get(key)}, here {here[key]}")
    library = _library(variant)
    if file.versions.get(library) != _version(library):
        return Plan((), f"the plan is of {library} {file.versions.get(library)}, here {_version(library)}")
    if variant not in file.variants:
        return Plan((), f"the plan has nothing about {variant}")
    steps = tuple(Step(**step.model_dump()) for step in file.variants[variant].steps)
    return Plan(steps, "" if steps else "nothing was faster than the library's own way")


def steps(path: Path, variant: str, onnx_sha256: str | None) -> tuple[Step, ...]:
    """Return the steps that `read` finds."""
    return read(path, variant, onnx_sha256).steps


def _machine() -> dict[str, Any]:
    return {
        "cpu": environment.cpu_name(),
        "cores": environment.cpu_count(),
        "gpus": [gpu.name for gpu in environment.gpus()],
    }


def _library(variant: str) -> str:
    return "onnxruntime" if variant in ("cpu", "cuda") else variant


def _version(library: str) -> str | None:
    names = ("", "-gpu") if library == "onnxruntime" else ("", "-cu12", "-cu13")
    return next(filter(None, (environment.version(f"{library}{name}") for name in names)), None)


def describe_steps(steps: tuple[Step, ...]) -> str:
    """Return a line for people."""
    if not steps:
        return "the library's own way is best"
    words = []
    for step in steps:
        ways = [
            f"{step.threads} thread{'s' if step.threads > 1 else ''}" if step.threads else "",
            f"chunks of {step.chunk}" if step.chunk else "",
            f"{step.streams} streams" if step.streams > 1 else "",
        ]
        words.append(f"from batch {step.batch} {' and '.join(filter(None, ways)) or 'as the library does'}")
    return ", ".join(words)
