"""What a check leaves: `results.json`, and what its own steps found. Plain dataclasses, for pydantic may be absent."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.environment import Machine

Status = Literal["passed", "failed", "skipped", "out of time"]
"""`skipped`: it cannot run here. `out of time`: the check's time ended it, or left none to begin it."""


@dataclass(frozen=True)
class Library:
    """A library that was imported in a process of its own: its version, the GPUs it sees, or its own words why not."""

    name: str
    version: str = ""
    gpus: str = ""
    error: str = ""


@dataclass(frozen=True)
class Result:
    """What became of a step. `log` is what it said, `found` what it wrote down, both below the check's folder."""

    step: str
    what: str
    status: Status
    reason: str
    command: tuple[str, ...]
    seconds: float = 0.0
    limit_s: float = 0.0
    exit_code: int | None = None
    log: str = ""
    found: Any = None


@dataclass(frozen=True)
class Check:
    """The whole check, written anew after every step."""

    begun: str
    budget_s: float
    rehearsal: bool
    machine: Machine
    versions: dict[str, str]
    libraries: tuple[Library, ...]
    results: tuple[Result, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    schema: int = field(default=1, init=False)

    @property
    def failed(self) -> list[str]:
        """The steps that could run here and failed."""
        return [one.step for one in self.results if one.status == "failed"]


@dataclass(frozen=True)
class PrecisionRun:
    """A precision's small network built for and run by one runner; an engine may have one profile for all batches.

    `difference` is the largest from the same graph on the CPU, over all `batches`; null where it did not run. `refused`
    has the library's words where it takes this graph, or this GPU, not at all; `wrong` says what is not as it must be.
    """

    precision: str
    one_profile: bool = False
    engine_bytes: int | None = None
    build_s: float | None = None
    batches: tuple[int, ...] = ()
    difference: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    wrong: str = ""

    @property
    def name(self) -> str:
        """What it is called: by its precision, and its engine's profile where that is the only one."""
        return f"{self.precision}{' (one profile)' if self.one_profile else ''}"

    @property
    def why(self) -> str:
        """Why it did not run, or what is wrong; empty where it ran right."""
        return self.wrong or self.refused


@dataclass(frozen=True)
class TimedRun:
    """A cell of the step `timings`, as the benchmark's cells are, in µs."""

    runner: str
    batch: int
    mode: str
    status: str
    reason: str
    calls: int
    p50_us: float | None
    p50_ci95_us: tuple[float, float] | None
    items_per_s: float | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class DeviceRun:
    """What `pipeline.cuda` did: bytes brought to the GPU and back, and how long each copy took, as a captured graph."""

    name: str
    compute_capability: tuple[int, int]
    nbytes: int
    to_ns: int
    back_ns: int


@dataclass(frozen=True)
class GpuTests:
    """The tests marked `gpu`: how many passed; the others with their words."""

    passed: tuple[str, ...]
    failed: dict[str, str]
    skipped: dict[str, str]
    not_importable: dict[str, str]
    """Test files that need what cannot be imported here."""


def write(path: Path, record: Any) -> None:
    """Write a dataclass, or a list of them, as JSON; a reader never meets half a file."""
    tree = [asdict(one) for one in record] if isinstance(record, list | tuple) else asdict(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.new")
    partial.write_text(json.dumps(tree, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    partial.replace(path)
