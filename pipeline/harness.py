"""The one clock: what is timed, and how. Backends never time themselves, so that all numbers are of one kind."""

import gc
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import latency
from pipeline.backends import LoadOptions
from pipeline.config import Benchmark

CLOCK = "time.perf_counter_ns"

MODES = ("end_to_end", "compute")
"""Host array to host array; or inputs resident on the device, the call and the wait for its end."""


@dataclass(frozen=True)
class Contender:
    """One way to run the model, in one precision."""

    backend: str
    variant: str
    precision: str
    path: Path
    options: LoadOptions
    skip: str = ""


@dataclass
class Cell:
    """One contender with one batch size in one mode; `rounds` holds its samples in ns."""

    contender: Contender
    batch: int
    mode: str
    device: str | None = None
    status: str = "skipped"
    reason: str = ""
    call: Callable[[], object] | None = None
    rounds: list[np.ndarray] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Name the cell in `samples.npz`."""
        contender = self.contender
        return f"{contender.backend}/{contender.variant}/{contender.precision}/{self.batch}/{self.mode}"

    def row(self) -> dict[str, Any]:
        """Return the cell as it stands in `results.json`."""
        row = {
            "backend": self.contender.backend,
            "variant": self.contender.variant,
            "precision": self.contender.precision,
            "device": self.device,
            "batch": self.batch,
            "mode": self.mode,
            "status": self.status,
            "reason": self.reason,
        }
        if self.status != "ok":
            measures = [name for name in latency.Summary.__dataclass_fields__ if name != "samples"]
            return row | {"samples": 0, **dict.fromkeys(measures)}
        return row | asdict(latency.summarise(np.concatenate(self.rounds), self.batch))


def fill(cells: list[Cell], options: Benchmark) -> None:
    """Fill every cell's rounds, all cells in turn in each round and in another order each time."""
    order = random.Random(0)  # noqa: S311  an order, not a secret
    for _ in range(options.rounds):
        gc.collect()  # here and not in `measure`: with TensorFlow loaded it takes 0.2 s
        for cell in order.sample(cells, len(cells)):
            assert cell.call is not None
            cell.rounds.append(
                measure(
                    cell.call,
                    warmup_s=options.warmup_s,
                    min_duration_s=options.min_duration_s / options.rounds,
                    min_samples=-(-options.min_samples // options.rounds),
                )
            )


def measure(call: Callable[[], object], *, warmup_s: float, min_duration_s: float, min_samples: int) -> np.ndarray:
    """Return the durations of single calls, int64 [samples] in ns.

    Calls at least once, and for `warmup_s`, before it counts; then until both `min_duration_s` and `min_samples` are
    reached. Garbage collection waits meanwhile.
    """
    samples: list[int] = []
    clock = time.perf_counter_ns
    gc.disable()
    try:
        end = clock() + int(warmup_s * 1e9)
        call()
        while clock() < end:
            call()
        start = clock()
        end = start + int(min_duration_s * 1e9)
        while start < end or len(samples) < min_samples:
            call()
            now = clock()
            samples.append(now - start)
            start = now
    finally:
        gc.enable()
    return np.asarray(samples, np.int64)
