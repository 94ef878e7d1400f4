"""Tuning records: with how many threads, and in what pieces, this machine runs batches of a size fastest.

The engine stage measures them and publishes them beside the graph. A record is true of one machine, one graph and one
version of the library; elsewhere it is ignored, with the reason.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pipeline import backends, environment
from pipeline.artifacts.engine import TunedMachine, TunedRunner, TuningRecord
from pipeline.artifacts.runner import Step


class Followed(NamedTuple):
    """The steps to run by; where there are none, `reason` says why."""

    steps: tuple[Step, ...]
    reason: str = ""


def record(onnx_sha256: str, tuned: Sequence[TunedRunner]) -> TuningRecord:
    """Return the content of `tuning.json`: what was measured, and what it applies to."""
    return TuningRecord(machine=machine(), onnx_sha256=onnx_sha256, runners=tuple(tuned))


def read(record: TuningRecord | None, backend: str, variant: str, onnx_sha256: str | None) -> Followed:
    """Return how a backend runs this graph, or the engine made of it; no steps, and why, where that is not known."""
    if record is None:
        return Followed((), "no tuning record: the engine stage writes one if engine.tune is true")
    if record.onnx_sha256 != onnx_sha256:
        return Followed((), "the tuning record is for another graph")
    here = machine()
    on_cpu = backends.get(backend).VARIANTS[variant].device == "cpu"
    if (record.machine.cpu, record.machine.cores) != (here.cpu, here.cores):
        return Followed(
            (), f"the tuning record is for another machine: {record.machine.cpu}, {record.machine.cores} cores"
        )
    if not on_cpu and record.machine.gpus != here.gpus:
        return Followed((), f"the tuning record is for other GPUs: {', '.join(record.machine.gpus) or 'none'}")
    entry = next((one for one in record.runners if (one.backend, one.variant) == (backend, variant)), None)
    if entry is None:
        return Followed((), f"{backend} {variant} was not tuned")
    if entry.versions != versions(backend):
        return Followed((), f"the tuning record is for {entry.versions}, installed are {versions(backend)}")
    return Followed(entry.steps, "" if entry.steps else "nothing was faster than the library's default")


def steps(record: TuningRecord | None, backend: str, variant: str, onnx_sha256: str | None) -> tuple[Step, ...]:
    """Return the steps that `read` finds."""
    return read(record, backend, variant, onnx_sha256).steps


def machine() -> TunedMachine:
    """Return the part of this machine that a tuning record applies to."""
    gpus = tuple(gpu.name for gpu in environment.gpus())
    return TunedMachine(cpu=environment.cpu_name(), cores=environment.cpu_count(), gpus=gpus)


def versions(backend: str) -> dict[str, str]:
    """Return the installed versions of a backend's packages."""
    found = {name: environment.version(name) for name in backends.get(backend).DISTRIBUTIONS}
    return {name: version for name, version in found.items() if version}


def describe(steps: tuple[Step, ...]) -> str:
    """Return a line for people."""
    if not steps:
        return "the library's default is fastest"
    words = []
    for step in steps:
        ways = [
            f"{step.threads} thread{'s' if step.threads > 1 else ''}" if step.threads else "",
            f"chunks of {step.chunk}" if step.chunk else "",
            f"{step.streams} streams" if step.streams > 1 else "",
        ]
        words.append(f"from batch {step.batch}: {' and '.join(filter(None, ways)) or 'as the library does by default'}")
    return ", ".join(words)
