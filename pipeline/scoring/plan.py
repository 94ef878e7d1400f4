"""What is scored by what, written down before the first row: a run that goes on must be the same."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record
from pipeline.errors import ArtifactError

FILE = "_plan.json"
"""With an underscore, as all beside the parts: readers of a folder of Parquet files leave such files out."""

ELSEWHERE = "Score into another folder, or delete this one to begin anew."


class InputFile(Record):
    """A file that rows are read from, as it was when the run began."""

    name: str
    """Below INPUT; empty: INPUT itself."""
    rows: int
    bytes: int
    modified_ns: int
    """Time of its last change, ns since 1970."""
    sha256: str | None = None
    """Of a folder with a file for each sample, a digest of all their names, sizes and times of change."""


class Piece(NamedTuple):
    """Rows `start` to `stop` of the file `file` of the plan: what one file of the output holds."""

    number: int
    file: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.stop - self.start


class Plan(Artifact):
    """The input, the bundle and how the rows are cut: what is in OUTPUT was made by no other plan."""

    PATH: ClassVar[str] = FILE
    REMEDY: ClassVar[str] = ELSEWHERE

    schema_: Literal[1] = Field(1, alias="schema")
    source: str
    """INPUT, absolute."""
    files: tuple[InputFile, ...]
    bundle: str
    """SHA-256 of its bundle.json."""
    runner: str
    """The name, in the bundle, of the runner that answers."""
    rows_per_file: int
    id: str
    """The column of ids in the output."""
    id_origin: Literal["column", "file and row", "path", "row"]
    """Where ids come from."""

    @property
    def rows(self) -> int:
        """How many rows there are to score."""
        return sum(one.rows for one in self.files)


def pieces(plan: Plan) -> list[Piece]:
    """Return the pieces of a plan: always the same ones, in the order of files and rows."""
    return [Piece(number, *place) for number, place in enumerate(_places(plan.files, plan.rows_per_file))]


def _places(files: Sequence[InputFile], size: int) -> Iterator[tuple[int, int, int]]:
    for index, file in enumerate(files):
        for start in range(0, file.rows, size):
            yield index, start, min(start + size, file.rows)


def begin(target: Path, plan: Plan) -> None:
    """Write the plan into the folder, or see that the one there is the same.

    Raises:
        ArtifactError: the folder has the answers of another plan, or files of something else.
    """
    path = target / FILE
    if path.exists():
        if wrong := _differences(Plan.read(path), plan):
            raise ArtifactError(f"{target} was begun with {', '.join(wrong)}", ELSEWHERE)
        return
    if strange := [one.name for one in target.iterdir() if one.name[0] not in "._"]:
        raise ArtifactError(f"{target} has files of something else: {min(strange)}", "Name a new or empty folder.")
    aside = path.with_suffix(".tmp")
    plan.write(aside)
    aside.replace(path)


def _differences(old: Plan, new: Plan) -> list[str]:
    found = []
    if old.source != new.source:
        found.append(f"another input ({old.source})")
    elif old.files != new.files:
        before, now = ({one.name: one for one in plan.files} for plan in (old, new))
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        found.append(f"another input: {changed[0] or old.source} has changed since, of {len(changed)}")
    if old.bundle != new.bundle:
        found.append("another bundle")
    elif old.runner != new.runner:
        found.append(f"another runner ({old.runner}, not {new.runner})")
    if old.rows_per_file != new.rows_per_file:
        found.append(f"score.rows_per_file={old.rows_per_file}, not {new.rows_per_file}")
    if (old.id, old.id_origin) != (new.id, new.id_origin):
        found.append(f"ids from {old.id_origin} as {old.id}, not from {new.id_origin} as {new.id}")
    return found
