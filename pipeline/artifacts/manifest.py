"""The manifest of a stage: what it published, from what, with what."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from pipeline.artifacts.dataset import PerSplit
from pipeline.artifacts.record import Artifact, Record
from pipeline.environment import Machine


class FileRecord(Record):
    """What a published file was when it was published."""

    sha256: str
    bytes: int


class DatasetSummary(Record):
    """The data that a run's numbers are of."""

    name: str
    origin: str
    substitute: str
    """Why MNIST was not taken, where it was wanted; else empty."""
    samples: PerSplit[int]


class Hardware(Record):
    """What makes a stage that depends on the hardware run again."""

    cpu: str
    cores: int
    gpus: tuple[tuple[str, str, int, str], ...]
    """Name, driver, memory in MiB and compute capability of each."""


class Fingerprint(Record):
    """All that decides whether a stage is up to date."""

    inputs: dict[str, str]
    """SHA-256 of every artifact read."""
    configuration: dict[str, JsonValue]
    """The sections and keys that the stage obeys."""
    versions: dict[str, str]
    """Packages, and `pipeline`: a digest of this package's source."""
    hardware: Hardware | None = None
    compare: dict[str, str] | None = None
    """Digests of the other runs that a report shows."""
    data: str | None = None
    """Digests of the data's files, or of the function that returns them."""
    model: str | None = None
    """Digest of the file that holds the user's own model."""
    tasks: dict[str, str] | None = None
    """Digest of the file that holds each function of the user's own that scores samples, by its import path."""


class Manifest(Artifact):
    """What a stage published, from what, with what. The next stage refuses a file that differs (exit code 3)."""

    PATH: ClassVar[str] = "*/manifest.json"

    schema_: Literal[1] = Field(1, alias="schema")
    stage: str
    status: Literal["done", "failed"]
    """`failed`: the artifacts record a failure, and the command exited with its code."""
    created: datetime
    """When, UTC."""
    command: tuple[str, ...]
    seconds: float
    dataset: DatasetSummary | None
    fingerprint: Fingerprint
    machine: Machine
    versions: dict[str, str]
    """Python and the packages that can change a result."""
    outputs: dict[str, FileRecord]
    """Every file below the stage's folder."""
