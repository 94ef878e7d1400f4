"""The page that documents the published files, and their JSON Schemas: both made from the models.

`python -m pipeline.artifacts.documentation` prints the page, which stands at `artifacts/README.md`; a test holds it to
the models.
"""

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.artifacts import PUBLISHED, Artifact, Record
from pipeline.artifacts.faults import writing
from pipeline.errors import ArtifactError

SCHEMAS = "schemas"
"""The folder beside the stages' with a JSON Schema for each published file."""

HEAD = """# What the stages publish

This page is made from the models in `pipeline/artifacts/` (`make artifacts/README.md`); do not edit it by hand.

Every stage publishes one folder below `artifacts/` (the key `artifacts` moves it). It writes beside, into
`.<stage>.partial`, which at the end changes places with the folder in one step: a stage that fails or is killed leaves
the previous artifacts as they were, and a reader finds the one or the other, whole. A folder without a manifest of the
stage, and a file that the manifest does not name, are not the pipeline's: a stage refuses to replace them.
Every JSON file has a number, `schema`; a change that breaks a reader raises it, and files of another number are refused
with what to run. What could not be measured is `null`, with a reason; there is no NaN. A JSON Schema for each file lies
in `artifacts/schemas/`, for readers in other languages.

```
artifacts/train/       model.keras  history.json  dataset.json
artifacts/export/      saved_model/  model.onnx
artifacts/engine/      <precision>/model.onnx  model.engine  engine.json  layers.json (where an engine could be loaded)
                       <precision>/tuning.json (with engine.tune)
                       selection.json (with engine.precisions=auto)
artifacts/validate/    parity.json  disagreements.json  disagreements.npz
artifacts/benchmark/   results.json  recommendation.json  samples.npz
artifacts/report/      index.html  report.md
artifacts/localise/    <precision>.json (on demand: python -m pipeline localise)
artifacts/loadgen/     <scenario>-<mode>/ (on demand: python -m pipeline benchmark --scenario, docs/loadgen.md)
artifacts/deploy/      bundle/ (on demand: python -m pipeline deploy, docs/serving.md)
artifacts/<stage>/manifest.json
artifacts/schemas/     <file>.schema.json
```

Beside a `model.onnx` with weights of 256 MiB or more lies `model.onnx.data`, which holds them; the first has the
SHA-256 of the second in its metadata, so that its own digest stands for both.

`benchmark/samples.npz` holds every sample behind the cells, int64 nanoseconds, one array
`<runner>[.repeat]/<batch>/<mode>/round<i>` each. `python -m pipeline doctor --artifacts artifacts` checks that every
timing has a verdict of the same runner with the same options.
"""


def page() -> str:
    """Return the page as Markdown."""
    sections = [HEAD]
    known: set[type[Record]] = set()
    for artifact in PUBLISHED:
        title = f"## {artifact.PATH.replace('*/', '<…>/', 1)} (schema {artifact.schema_number()})"
        sections.append(f"{title}\n\n{_prose(artifact)}\n\n{_table(artifact)}")
        for part in _parts(artifact, known):
            sections.append(f"### {part.__name__}\n\n{_prose(part)}\n\n{_table(part)}")
    return "\n".join(f"{section.rstrip()}\n" for section in sections)


def schemas() -> dict[str, str]:
    """Return the JSON Schema of each published file, by its file's name."""
    return {
        f"{_stem(artifact)}.schema.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"}
            | artifact.model_json_schema(by_alias=True, mode="serialization"),
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
        for artifact in PUBLISHED
    }


def publish_schemas(root: Path) -> None:
    """Write the schemas below a folder of artifacts, where they are not there already.

    Raises:
        ArtifactError: the folder cannot be written, or somebody else's schema is there.
    """
    folder = root / SCHEMAS
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in schemas().items():
            path = folder / name
            there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            if there and _title(text) not in there:
                raise ArtifactError(
                    f"{path} is none of the pipeline's schemas", "Move it away, or set artifacts=DIR to another folder."
                )
            if there != text:
                path.write_text(text, encoding="utf-8")


def _title(schema: str) -> str:
    """Return the line with the name of the record: a schema of another version has it, too."""
    return next(line for line in schema.splitlines() if line.startswith('  "title": '))


def _stem(artifact: type[Artifact]) -> str:
    """Return the schema's name: the file's, or its folder's where the file is named by data."""
    folder, _, file = artifact.PATH.rpartition("/")
    return folder if file.startswith("*") else file.removesuffix(".json")


def _prose(record: type[Record]) -> str:
    return inspect.cleandoc(record.__doc__ or "")


def _table(record: type[Record]) -> str:
    rows = ["| key | type | meaning |", "|---|---|---|"]
    for field, info in record.model_fields.items():
        meaning = " ".join((info.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{info.alias or field}` | {_type(info.annotation)} | {meaning} |")
    return "\n".join(rows)


def _type(annotation: Any) -> str:
    """Return a field's type in JSON's words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if one is type(None) else _type(one) for one in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {_type(arguments[0])}"
        return f"[{', '.join(map(_type, arguments))}]"
    if origin is dict:
        return f"object: {_type(arguments[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        of = annotation.__pydantic_generic_metadata__["args"]
        return f"{annotation.__name__.partition('[')[0]} of {_type(of[0])}" if of else annotation.__name__
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        fields = (f"`{field.name}` {_type(field.type)}" for field in dataclasses.fields(annotation))
        return f"{annotation.__name__} ({', '.join(fields)})"
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "datetime": "time"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, "any" if name == "JsonValue" else name)


def _parts(record: type[Record], known: set[type[Record]]) -> Iterator[type[Record]]:
    """Yield the records that a file is made of, each once in the page."""
    for info in record.model_fields.values():
        for part in _records(info.annotation):
            if part not in known and "[" not in part.__name__:
                known.add(part)
                yield part
                yield from _parts(part, known)


def _records(annotation: Any) -> Iterator[type[Record]]:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _records(inner)


if __name__ == "__main__":
    print(page(), end="")
