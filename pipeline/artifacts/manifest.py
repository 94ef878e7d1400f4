"""The manifest of a stage: what it published, from what, with what."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue

from pipeline import digests
from pipeline.artifacts.dataset import PerSplit
from pipeline.artifacts.record import Artifact, Record, dump_json
from pipeline.environment import Machine
from pipeline.errors import ArtifactError


class FileRecord(Record):
    """What a published file was when it was published."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return what a file is now."""
        return cls(sha256=digests.of_file(path), bytes=path.stat().st_size)

    def difference(self, path: Path) -> str:
        """Return in what a file is not as it was published, or nothing."""
        try:
            if not path.is_file():
                return f"{path} is missing"
            if (size := path.stat().st_size) != self.bytes:
                return f"{path} has {size} bytes; {self.bytes} were published"
            if digests.of_file(path) != self.sha256:
                return f"{path} has changed since it was published (its SHA-256 differs)"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        return ""


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
    """What a stage published, from what, with what. The next stage refuses a file that differs (exit code 3).

    A manifest that differs from what was written, in whatever bit, is refused by whoever reads it.
    """

    PATH: ClassVar[str] = "*/manifest.json"

    schema_: Literal[2] = Field(2, alias="schema")
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
    sha256: str = ""
    """Of this file with nothing between the quotation marks here."""

    def to_json(self) -> str:
        """Return the file's text, with its digest."""
        tree = self.model_dump(mode="json", by_alias=True) | {"sha256": ""}
        return dump_json(tree | {"sha256": hashlib.sha256(dump_json(tree).encode()).hexdigest()})

    def _checked(self, text: str, path: Path) -> Self:
        # The whole text: spaces, and 1E-5 for 1e-5, are no meaning of JSON's, and changed all the same.
        if text != self.to_json():
            raise ArtifactError(
                f"{path} has changed since it was published (its own SHA-256 differs)", self.remedy(path)
            )
        return self
