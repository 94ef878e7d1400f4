"""What the benchmark measured."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from pipeline.artifacts.conditions import Conditions
from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.runner import RunnerRecord
from pipeline.environment import Machine

Interval = tuple[float, float]
Mode = Literal["end_to_end", "compute"]
SpeedVerdict = Literal["faster", "slower", "no significant difference"]
Microseconds = Annotated[float, Field(gt=0)]


class Timing(Record):
    """What a cell's samples say; a percentile is null where their count cannot support it."""

    samples: int
    mean_us: Microseconds
    p50_us: Microseconds | None
    """The median of the rounds' medians."""
    p50_ci95_us: Interval | None
    """Its bootstrap interval over rounds."""
    p90_us: Microseconds | None
    p95_us: Microseconds | None
    p99_us: Microseconds | None
    items_per_s: float
    """Batch over mean."""
    round_p50_us: tuple[Microseconds, ...]
    """The median of each round."""
    round_mean_us: tuple[Microseconds, ...]
    """The mean of each round."""


class WarmUp(Record):
    """What it took until the level was stable."""

    calls: int
    seconds: float
    stable: bool


class Span(Record):
    """The machine's state before and after."""

    start: Conditions | None
    end: Conditions | None


class Limit(Record):
    """The least time that this machine could take, and how near a timing comes."""

    limit: Literal["compute", "memory", "pcie", "launch"]
    limit_us: float
    share: float
    """The limit over the median; above 1 where the work is less than counted."""
    compute_us: float | None
    memory_us: float | None
    pcie_us: float | None
    launch_us: float | None


class Cell(Record):
    """One runner at one batch size in one mode."""

    runner: RunnerRecord
    """The runner whose verdict in `validate/parity.json` covers this timing: the same, with the same options."""
    repeat: bool
    """The A/A repeat of the cell before it, which shows the noise."""
    batch: int
    mode: Mode
    """`end_to_end`: host array to host array. `compute`: on a GPU, inputs resident there."""
    device: str | None
    """Where it really ran: `cpu`, `cuda:0`."""
    status: Literal["ok", "skipped", "failed"]
    reason: str
    clock: Literal["perf_counter_ns", "cuda_events"]
    settings: dict[str, JsonValue]
    """How the session ran: threads, chunks; on a GPU streams, CUDA graph, pinned memory."""
    warmup: WarmUp | None
    conditions: Span
    """After the cell's first and last round."""
    timing: Timing | None
    """Null unless the status is ok."""
    limit: Limit | None

    @property
    def key(self) -> str:
        """Name the cell in `samples.npz`, where each of its rounds is `<key>/round<index>`."""
        return f"{self.runner.name}{'.repeat' if self.repeat else ''}/{self.batch}/{self.mode}"


class Speedup(Record):
    """How much faster a runner is than one way to run the original model, at one batch size in one mode."""

    runner: str
    device: str
    over: str
    over_device: str
    batch: int
    mode: Mode
    ratio: float
    """The median of the rounds' ratios; above 1 the runner is faster."""
    ratio_ci95: Interval | None
    verdict: SpeedVerdict


class NoiseFloor(Record):
    """A runner against itself, in two processes: differences below `floor` are none."""

    batch: int
    mode: Mode
    device: str
    runner: str
    ratio: float
    ratio_ci95: Interval | None
    floor: float = Field(ge=0)


class Peaks(Record):
    """The most that this machine was seen to do on one device; what has no value has its reason."""

    device: str
    threads: int | None
    macs_per_s: dict[str, float] = Field(default_factory=dict)
    """Multiply-accumulates per second by precision."""
    bytes_per_s: float | None = None
    """Read and written by a large copy in the device's memory."""
    pcie_bytes_per_s: float | None = None
    """From page-locked host memory to the GPU."""
    launch_us: float | None = None
    """The cost of starting anything; on a CPU the harness's own."""
    tries: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """What each round reached, per second: how far they lie apart tells how steady the machine was."""
    reasons: dict[str, str] = Field(default_factory=dict)


class RunEnvironment(Record):
    """Where, on what and how everything was timed."""

    machine: Machine
    versions: dict[str, str]
    dataset: str
    settings: dict[str, JsonValue]
    """The configuration's section `benchmark`."""
    threads: int
    conditions: Span


class BenchmarkResults(Artifact):
    """Every timing, the noise between equals, the machine's limits, and the speed-ups over the original model."""

    PATH: ClassVar[str] = "benchmark/results.json"

    schema_: Literal[3] = Field(3, alias="schema")
    interrupted: bool
    """Ctrl-C ended it; what was measured in whole rounds is here."""
    environment: RunEnvironment
    noise_floor: tuple[NoiseFloor, ...]
    limits: dict[str, Peaks]
    """By device."""
    cells: tuple[Cell, ...]
    speedups: tuple[Speedup, ...]
    """The strongest baseline of a runner first."""
