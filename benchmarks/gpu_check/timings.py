"""The step `timings`: what the steps of single runners ran right, timed in both modes by the benchmark's own harness.

It needs no TensorFlow, as the pipeline does, whose benchmark times the pipeline's own model.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.gpu_check import records
from benchmarks.gpu_check.precisions import model_of
from benchmarks.gpu_check.records import PrecisionRun, TimedRun
from pipeline import backends, digests, precisions
from pipeline.artifacts.runner import RunnerOptions, RunnerRecord
from pipeline.errors import BackendUnavailable, PipelineError
from pipeline.measuring import harness, speedups
from pipeline.measuring.cells import Measurement, Schedule, Timed
from pipeline.runners import Runner
from pipeline.tensors import Outputs

BATCHES = (1, 64)
SCHEDULE = Schedule(seconds=0.4, min_samples=30, rounds=5, warmup_s=1.0)


def main(found: Path, *names: str) -> None:
    """Time every precision of the runners called `names`, each `backend variant`; write a `TimedRun` for each cell.

    Raises:
        BackendUnavailable: none of them ran anything right.
        PipelineError: what ran in its own step cannot be timed.
    """
    runners = [one for name in names for one in _runners(found.with_name(f"{name.replace(' ', '-')}.json"), name)]
    if not runners:
        raise BackendUnavailable(f"none of these ran anything right: {', '.join(names)}")
    timed = speedups.with_repeats(runners, lambda one: True)
    runs: list[TimedRun] = []
    for batch in BATCHES:
        with tempfile.TemporaryDirectory() as folder:
            samples = Path(folder) / "samples.npz"
            np.savez(samples, image=np.random.default_rng(3).integers(0, 256, (batch, 28, 28, 1), dtype=np.uint8))
            cells, interrupted = harness.time_batch(timed, samples, batch, SCHEDULE, _wrong, print)
        runs += map(_run, cells)
        records.write(found, runs)
        if interrupted:
            raise KeyboardInterrupt
    if failed := [one for one in runs if one.status == "failed"]:
        raise PipelineError("\n".join(f"{one.runner}, batch {one.batch}: {one.reason}" for one in failed))


def _runners(step: Path, name: str) -> list[Runner]:
    """Return the runners of what a step found to be right; none where it did not run."""
    if not step.is_file():
        return []
    backend, variant = name.split()
    right = [one for one in (PrecisionRun(**row) for row in json.loads(step.read_text())) if not one.why]
    return [_runner(step, backend, variant, one) for one in right]


def _runner(step: Path, backend: str, variant: str, run: PrecisionRun) -> Runner:
    offered = backends.get(backend).VARIANTS[variant]
    path = model_of(step, run, engine=offered.consumes == "engine")
    record = RunnerRecord(
        name=f"{backend} {variant} {run.name}",
        role="exported",
        backend=backend,
        variant=variant,
        precision=run.precision,
        file=path.name,
        sha256=digests.of_file(path),
        options=RunnerOptions(allow_tf32=precisions.get(run.precision).allow_tf32),
    )
    return Runner(record, path, offered.device, f"{backends.__name__}.{backend}")


def _wrong(timed: Timed, found: Outputs, reference: Outputs | None) -> str:
    """Return what is wrong with outputs; that they are the graph's own, the runner's own step has shown."""
    return "" if all(np.isfinite(rows).all() for rows in found.values()) else "NaN or Inf in the outputs"


def _run(cell: Measurement) -> TimedRun:
    timing = cell.timing if cell.status == "ok" else None
    return TimedRun(
        runner=str(cell.timed),
        batch=cell.batch,
        mode=cell.mode,
        status=cell.status,
        reason=cell.reason,
        calls=timing.samples if timing else 0,
        p50_us=timing.p50_us if timing else None,
        p50_ci95_us=timing.p50_ci95_us if timing else None,
        items_per_s=timing.items_per_s if timing else None,
        settings=cell.settings,
    )
