"""What a published JSON file is made of: frozen models that write it, read it and describe it."""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipeline import texts
from pipeline.errors import ArtifactError

LARGEST = 2**64 - 1  # LoadGen has unsigned seeds
"""No count, size or duration of ours is larger; what is would overflow where it is reckoned with."""


class Record(BaseModel):
    """A part of a published file. Its fields' docstrings are the documentation that `artifacts/README.md` prints."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,  # what is not a number is null, with a reason
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_serialization_defaults_required=True,  # every key is always written
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, tree: Any) -> Any:
        return plain(tree)


class Artifact(Record):
    """A published JSON file. Each has a field `schema_`, a `Literal` with its number."""

    PATH: ClassVar[str]
    """Where it is published, `<stage>/<file>`, with `*` for a folder or file named by data."""
    REMEDY: ClassVar[str] = ""
    """What publishes it again; empty: its stage."""

    def to_json(self) -> str:
        """Return the file's text."""
        return dump_json(self.model_dump(mode="json", by_alias=True))

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            ArtifactError: it is not there, no JSON, of another schema, or not as its schema says.
        """
        try:
            text = path.read_bytes().decode()
            tree = json.loads(text)
        except FileNotFoundError as error:
            raise ArtifactError(f"{path} does not exist", cls.remedy(path)) from error
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} cannot be read as JSON: {error}", cls.remedy(path)) from error
        return cls.parse(tree, path)._checked(text, path)

    def _checked(self, text: str, path: Path) -> Self:
        """Return what was read after checking the file's text, where its kind has a way to."""
        return self

    @classmethod
    def parse(cls, tree: Any, path: Path) -> Self:
        """Return what a file's JSON says; `path` is where it was read.

        Raises:
            ArtifactError: it is of another schema, or not as its schema says.
        """
        number = cls.schema_number()
        found = tree.get("schema") if isinstance(tree, dict) else None
        if found != number:
            what = f"has schema {found}, not {number}" if found is not None else f"is not a {Path(cls.PATH).name}"
            raise ArtifactError(f"{path} {what}: another version of the pipeline wrote it", cls.remedy(path))
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            detail = error.errors()[0]
            where = "/".join(map(str, detail["loc"]))
            raise ArtifactError(
                f"{path} is not as schema {number} says: {where}: {detail['msg']}", cls.remedy(path)
            ) from error

    @classmethod
    def schema_number(cls) -> int:
        """Return the number of the schema that this version writes and reads."""
        return int(cls.model_fields["schema_"].default)

    @classmethod
    def remedy(cls, path: Path) -> str:
        """Return what publishes a file again."""
        stage = cls.PATH.partition("/")[0].replace("*", path.parent.name)
        return cls.REMEDY or f"Run `make {stage}` with this version of the pipeline."


def plain(tree: Any) -> Any:
    """Return a tree of JSON with text that every file, page and terminal takes (`texts.whole`).

    Raises:
        ValueError: a whole number has more than 64 bits.
    """
    if isinstance(tree, str):
        return texts.whole(tree)
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):  # no named tuple
        return type(tree)(map(plain, tree))
    if type(tree) is int and abs(tree) > LARGEST:
        raise ValueError("a whole number of more than 64 bits")
    return tree


def dump_json(tree: Any) -> str:
    """Return JSON as this project writes it. NaN is refused: what is not a number is written as null, with a reason."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
