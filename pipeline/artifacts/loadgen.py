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
    """How good the answers were that LoadGen saw, by one output, beside validation's finding and MLPerf's targets."""

    output: str
    """Its name; empty where a function of the user's own judges all outputs together."""
    metric: str
    value: float | None
    """Null where it is no number."""
    samples: int
    validated_runner: str
    validated: float | None
    """What validation found; null where that runner did not run there."""
    fp32: float | None
    """Of the original model."""
    of_fp32: float | None
    """The share of the original's that is reached; of an error, the original's as a share of it."""
    meets_99: bool
    meets_99_9: bool


class LoadgenResult(Artifact):
    """One scenario of MLPerf LoadGen; its own logs lie beside. Result not verified by MLCommons Association."""

    PATH: ClassVar[str] = "loadgen/*/result.json"
    REMEDY: ClassVar[str] = 'Run `make benchmark ARGS="--scenario …"` with this version of the pipeline.'

    schema_: Literal[3] = Field(3, alias="schema")
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
    accuracy: tuple[LoadgenAccuracy, ...]
    """By output; empty where speed was measured."""
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
