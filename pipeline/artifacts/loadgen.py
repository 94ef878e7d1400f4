"""A run of MLPerf LoadGen."""

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.runner import RunnerRecord


class Expected(Record):
    """What a test would come to, by a short measurement before it."""

    seconds: float
    queries: int
    samples_per_query: int
    samples_per_s: float


class Metric(Record):
    """The number that MLPerf goes by in a scenario."""

    name: str
    value: float | None
    """Null where LoadGen could not give it."""
    unit: Literal["ns", "per second"]


class LoadgenAccuracy(Record):
    """The accuracy that LoadGen saw, beside validation's and MLPerf's targets."""

    accuracy: float
    correct: int
    samples: int
    validated_runner: str
    validated_accuracy: float | None
    """Null where that runner did not run in validation."""
    fp32: float
    """Of the original model."""
    of_fp32: float | None
    meets_99: bool
    meets_99_9: bool


class LoadgenResult(Artifact):
    """One scenario of MLPerf LoadGen; its own logs lie beside. Result not verified by MLCommons Association."""

    PATH: ClassVar[str] = "loadgen/*/result.json"
    REMEDY: ClassVar[str] = 'Run `make benchmark ARGS="--scenario …"` with this version of the pipeline.'

    schema_: Literal[2] = Field(2, alias="schema")
    scenario: Literal["singlestream", "multistream", "server", "offline"]
    mode: Literal["performance", "accuracy"]
    official: Literal[False] = False
    unofficial: tuple[str, ...]
    """Why it is no official result."""
    statement: str
    valid: bool
    loadgen_result: Literal["VALID", "INVALID"] | None
    reasons: tuple[str, ...]
    """Why it is not valid."""
    metric: Metric | None
    metrics: dict[str, JsonValue]
    accuracy: LoadgenAccuracy | None
    runner: RunnerRecord
    device: str
    session: dict[str, JsonValue]
    """How the session ran."""
    largest_batch: int
    expected: Expected
    seconds_asked: float | None
    settings: dict[str, JsonValue]
    """LoadGen's settings in effect."""
    dataset: str
    loadgen_version: str
