"""Runners that nothing has to be published for, and cells of a benchmark with rounds made up."""

from collections.abc import Sequence
from pathlib import Path

import made_records
import numpy as np

from pipeline.artifacts.results import Mode
from pipeline.artifacts.runner import BatchRange, Role
from pipeline.measuring.cells import Measurement, Timed
from pipeline.runners import Runner
from pipeline.tensors import DeviceKind


def runner(
    name: str,
    precision: str = "fp32",
    role: Role = "exported",
    *,
    path: Path = Path("model.onnx"),
    device: DeviceKind = "cpu",
    module: str = "",
    batches: BatchRange | None = None,
    unavailable: str = "",
) -> Runner:
    """Return a runner of the backend and the variant that its name begins with, whose file is not checked."""
    record = made_records.runner(name, role, precision).model_copy(update={"sha256": None, "batches": batches})
    return Runner(
        record, path, device, module or f"pipeline.backends.{name.partition(' ')[0]}", unavailable=unavailable
    )


def measurement(
    one: Runner,
    rounds_us: Sequence[float],
    *,
    batch: int = 1,
    mode: Mode = "end_to_end",
    repeat: bool = False,
    device: str = "cpu",
) -> Measurement:
    """Return a cell that was timed: in each round 30 calls that took as long as is said."""
    rounds = [np.full(30, round(us * 1e3), np.int64) for us in rounds_us]
    return Measurement(Timed(one, repeat), batch, mode, device=device, status="ok", rounds=rounds)


def around(us: float, spread: float = 0.005, rounds: int = 10) -> list[float]:
    """Return rounds that lie to both sides of a time, by a fraction of it."""
    return [us * (1 + spread * (-1) ** index) for index in range(rounds)]
