"""Which runner is the fastest of those that passed validation."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.results import Interval
from pipeline.artifacts.runner import RunnerRecord
from pipeline.environment import Machine

Goal = Literal["latency", "throughput"]


class Ranked(Record):
    """A runner that passed, with what was measured."""

    runner: str
    device: str
    value: float


class Choice(Record):
    """The runner to take at one batch size, for one goal."""

    batch: int
    goal: Goal
    """`latency`: the least median of a call. `throughput`: the most samples per second."""
    unit: Literal["us", "samples/s"]
    runner: RunnerRecord
    device: str
    value: float
    next: str | None
    """The runner it is compared with: the fastest other one; null where it is the only one."""
    ratio: float | None
    """How many times as fast as `next` it is; below 1 where `next` is faster, but not significantly so."""
    ratio_ci95: Interval | None
    verdict: Literal["faster", "no significant difference", "the only one"]
    reason: str
    ranking: tuple[Ranked, ...]
    """All that passed, the fastest first."""


class Excluded(Record):
    """A runner that was timed, or could have been, and may not be chosen."""

    runner: str
    reason: str


class Recommendation(Artifact):
    """The fastest verified runner for each batch size, by measurement on this machine."""

    PATH: ClassVar[str] = "benchmark/recommendation.json"

    schema_: Literal[1] = Field(1, alias="schema")
    machine: Machine
    choices: tuple[Choice, ...]
    excluded: tuple[Excluded, ...]

    def choice(self, batch: int, goal: Goal) -> Choice | None:
        """Return the choice for the batch size that is nearest to `batch` from below, else the smallest timed."""
        rows = sorted((row for row in self.choices if row.goal == goal), key=lambda row: row.batch)
        fitting = [row for row in rows if row.batch <= batch]
        return fitting[-1] if fitting else rows[0] if rows else None
