"""What is timed, while it is timed: one runner with one batch size in one mode, and for how long."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.artifacts.conditions import Conditions
from pipeline.artifacts.results import Cell, Limit, Mode, Span, Timing, WarmUp
from pipeline.measuring import statistics
from pipeline.measuring.clock import Clock
from pipeline.runners import Runner

MODES: tuple[Mode, ...] = ("end_to_end", "compute")
"""Host array to host array; or, on a GPU, inputs resident there: the inference alone."""


@dataclass(frozen=True)
class Schedule:
    """For how long cells are timed: at least `seconds` and `min_samples` each, over all rounds.

    A process that is silent for `patience_s` beyond its time hangs, and its cell fails.
    """

    seconds: float
    min_samples: int
    rounds: int
    warmup_s: float
    patience_s: float = 600.0


@dataclass(frozen=True)
class Timed:
    """A runner that takes part; a `repeat` is the one before it once more, in a process of its own (A/A)."""

    runner: Runner
    repeat: bool = False

    @property
    def skip(self) -> str:
        """Why it cannot be timed here; empty where it can."""
        return self.runner.unavailable

    def __str__(self) -> str:
        return f"{self.runner.record.name}{' (A/A repeat)' if self.repeat else ''}"


@dataclass
class Measurement:
    """A cell in the making; `rounds` holds its samples in ns."""

    timed: Timed
    batch: int
    mode: Mode
    device: str | None = None
    status: Literal["ok", "skipped", "failed"] = "skipped"
    reason: str = ""
    clock: Clock = "perf_counter_ns"
    settings: dict[str, Any] = field(default_factory=dict)
    warmup: WarmUp | None = None
    start: Conditions | None = None
    end: Conditions | None = None
    rounds: list[statistics.Samples] = field(default_factory=list)

    @property
    def runner(self) -> Runner:
        """The runner that is timed."""
        return self.timed.runner

    @property
    def name(self) -> str:
        """The runner's name."""
        return self.runner.record.name

    @property
    def timing(self) -> Timing:
        """What its samples say."""
        return statistics.summarise(self.rounds, self.batch)

    def cell(self, limit: Limit | None) -> Cell:
        """Return the cell as it is published."""
        return Cell(
            runner=self.runner.record,
            repeat=self.timed.repeat,
            batch=self.batch,
            mode=self.mode,
            device=self.device,
            status=self.status,
            reason=self.reason,
            clock=self.clock,
            settings=self.settings,
            warmup=self.warmup,
            conditions=Span(start=self.start, end=self.end),
            timing=self.timing if self.status == "ok" else None,
            limit=limit,
        )
