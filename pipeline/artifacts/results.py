"""A benchmark's results.json read back, as far as runs are compared by it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline import artifacts
from pipeline.errors import ArtifactError

SCHEMA = 2


class _Part(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False, frozen=True)


class Cell(_Part):
    """One cell as it stands in results.json, as far as it is compared."""

    backend: str
    variant: str
    precision: str
    batch: int
    mode: str
    device: str | None = None
    twin: bool = False
    status: Literal["ok", "skipped", "failed"]
    reason: str | None = None
    clock: str | None = None
    round_p50_us: list[Annotated[float, Field(gt=0)]] | None = None


class Floor(_Part):
    """The smallest difference that may be called one, at a batch size and on a device."""

    batch: int
    device: str | None
    floor: float = Field(ge=0)


class Environment(_Part):
    """Where and how a run was made."""

    machine: dict[str, Any]
    versions: dict[str, str]
    dataset: str
    settings: dict[str, Any]
    threads: int | None = None


class Results(_Part):
    """A results.json, as far as it is compared."""

    interrupted: bool = False
    environment: Environment
    noise_floor: list[Floor]
    limits: dict[str, Any] | None = None
    cells: list[Cell]


def read(path: Path) -> Results:
    """Read a results.json.

    Raises:
        ArtifactError: it is not there, no JSON, of another schema, or not as that schema says.
    """
    keep = "Keep a copy of artifacts/benchmark/results.json of the run that others are to be compared with."
    try:
        tree = artifacts.read_json(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist", keep) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON: {error}", keep) from error
    return parse(tree, path)


def check_schema(tree: Any, path: Path) -> None:
    """Raise ArtifactError where this is no results.json, or one of another schema; `path` is where it was read."""
    found = tree.get("schema") if isinstance(tree, dict) else None
    if found != SCHEMA:
        what = "has no schema of a results.json" if found is None else f"has schema {found}, not {SCHEMA}"
        raise ArtifactError(f"{path} {what}", "Run `make benchmark` with this version of the pipeline to get one.")


def parse(tree: Any, path: Path) -> Results:
    """Return a results.json's content, checked; `path` is where it was read.

    Raises:
        ArtifactError: it is of another schema, or not as that schema says.
    """
    check_schema(tree, path)
    try:
        return Results.model_validate(tree)
    except ValueError as error:
        raise ArtifactError(f"{path} is not as schema {SCHEMA} says: {error}", "Run `make benchmark` again.") from error
