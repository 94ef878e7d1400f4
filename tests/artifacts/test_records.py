"""Every published JSON file: read back as it was written, refused where it is damaged, and documented."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from commands import ROOT
from made_rare import MADE
from pydantic import ValidationError

from pipeline.artifacts import PUBLISHED, Artifact, documentation
from pipeline.artifacts.engine import EngineLayers
from pipeline.artifacts.loadgen import LoadgenResult
from pipeline.artifacts.results import BenchmarkResults
from pipeline.errors import ArtifactError


class File(NamedTuple):
    """A published file, and its model."""

    kind: type[Artifact]
    path: Path

    @property
    def tree(self) -> Any:
        return json.loads(self.path.read_text(encoding="utf-8"))

    def read(self) -> Artifact:
        return self.kind.read(self.path)


@pytest.fixture(scope="module")
def run(main_job: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[type[Artifact], list[File]]:
    """The files of each model: those of the main job, and made ones of what it does not write. Read only."""
    made = tmp_path_factory.mktemp("made")
    for name, artifact in MADE.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        artifact.write(made / name)
    roots = (main_job / "artifacts", made)
    return {kind: [File(kind, path) for root in roots for path in sorted(root.glob(kind.PATH))] for kind in PUBLISHED}


@pytest.fixture(params=PUBLISHED, ids=lambda kind: kind.PATH)
def files(request: pytest.FixtureRequest, run: dict[type[Artifact], list[File]]) -> list[File]:
    """The files of one model."""
    found = run[request.param]
    assert found, "no file of this model: neither of the run nor made"
    return found


# Reading and writing


def test_a_file_is_read_back_as_it_was_written(files: list[File], tmp_path: Path) -> None:
    for file in files:
        read = file.read()
        read.write(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == file.path.read_bytes()
        assert file.kind.read(tmp_path / "again.json") == read


def test_every_json_file_of_a_run_has_a_model(main_job: Path) -> None:
    root = main_job / "artifacts"
    known = {path for kind in PUBLISHED for path in root.glob(kind.PATH)}
    # In a bundle are copies of these, and files of others' formats.
    left = {path for path in root.rglob("*.json") if not {"saved_model", "bundle"} & {*path.parts}} - known
    assert {path.parent.name for path in left} == {"schemas"}


def test_a_model_cannot_be_changed(files: list[File]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        files[0].read().schema_ = 7


# Refusing


def refused(file: File, tree: Any, folder: Path) -> ArtifactError:
    """Return the error by which a tree is refused as this file, which names it and what to run."""
    path = folder / file.path.parent.name / file.path.name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(ArtifactError) as caught:
        file.kind.read(path)
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.message
    stage = "benchmark" if file.kind is LoadgenResult else file.path.parts[-len(Path(file.kind.PATH).parts)]
    assert f"make {stage}" in caught.value.hint
    return caught.value


def test_another_schema_is_refused(files: list[File], tmp_path: Path) -> None:
    for number in (files[0].kind.schema_number() + 1, 0, "1", None):
        error = refused(files[0], files[0].tree | {"schema": number}, tmp_path)
        assert "another version of the pipeline wrote it" in error.message
    for tree in ({}, [], 3, None):
        assert "another version" in refused(files[0], tree, tmp_path).message


def objects(tree: Any, kind: Any, path: tuple[str | int, ...] = ()) -> "list[tuple[str | int, ...]]":
    """Return where in a file's tree the objects are whose keys its schema names."""
    found = []
    if isinstance(tree, dict):
        found = [path] if "properties" in kind else []
        for key, value in tree.items():
            below = kind.get("properties", {}).get(key, kind.get("additionalProperties", {}))
            found += objects(value, below if isinstance(below, dict) else {}, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree[:2]):
            found += objects(value, kind.get("items", {}), (*path, index))
    return found


def resolved(schema: Any, definitions: Any) -> Any:
    """Return a schema without references and alternatives: of `X or null`, X."""
    if not isinstance(schema, dict):
        return [resolved(one, definitions) for one in schema] if isinstance(schema, list) else schema
    if "$ref" in schema:
        return resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        (one,) = [one for one in schema["anyOf"] if one != {"type": "null"}][:1]
        return resolved(one, definitions)
    return {key: resolved(value, definitions) for key, value in schema.items() if key != "$defs"}


def placed(tree: Any, path: tuple[str | int, ...], change: Callable[[dict[str, Any]], None]) -> Any:
    """Return a copy of a tree in which one object is changed."""
    copied = json.loads(json.dumps(tree))
    found = copied
    for key in path:
        found = found[key]
    change(found)
    return copied


def every_object(file: File) -> "list[tuple[str | int, ...]]":
    schema = file.kind.model_json_schema(by_alias=True, mode="serialization")
    return objects(file.tree, resolved(schema, schema.get("$defs", {})))


def test_an_unknown_key_is_refused_wherever_it_is(files: list[File], tmp_path: Path) -> None:
    places = every_object(files[0])
    assert () in places
    for place in places:
        tree = placed(files[0].tree, place, lambda one: one.update(surprise=1))
        error = refused(files[0], tree, tmp_path)
        assert f"{'/'.join(map(str, (*place, 'surprise')))}: " in error.message


def test_a_missing_key_is_refused_and_named(files: list[File], tmp_path: Path) -> None:
    kind = files[0].kind
    required = [
        info.alias or name for name, info in kind.model_fields.items() if info.is_required() and name != "schema_"
    ]
    assert required
    for key in required:
        tree = {name: value for name, value in files[0].tree.items() if name != key}
        assert f"{key}: Field required" in refused(files[0], tree, tmp_path).message


def first_number(tree: Any, path: tuple[str | int, ...] = ()) -> "tuple[str | int, ...] | None":
    """Return where the first number that is no schema's and no truth value is."""
    if isinstance(tree, float) or (isinstance(tree, int) and not isinstance(tree, bool) and path != ("schema",)):
        return path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return next(filter(None, (first_number(value, (*path, key)) for key, value in items)), None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_neither_read_nor_written(files: list[File], value: float, tmp_path: Path) -> None:
    for file in files:
        place = first_number(file.tree)
        if place is None:
            continue
        tree = placed(file.tree, place[:-1], lambda one, key=place[-1]: one.__setitem__(key, value))
        refused(file, tree, tmp_path)
        with pytest.raises((ValidationError, ValueError)):
            file.kind.model_validate(tree).to_json()
        return
    assert files[0].kind.PATH == EngineLayers.PATH, "the only one that may be without a number"


def test_a_wrong_type_is_refused_with_its_place(run: dict[type[Artifact], list[File]], tmp_path: Path) -> None:
    (file,) = run[BenchmarkResults]
    for key, value, said in (("batch", "many", "cells/0/batch"), ("status", "fine", "cells/0/status")):
        tree = placed(file.tree, ("cells", 0), lambda one, key=key, value=value: one.__setitem__(key, value))
        assert said in refused(file, tree, tmp_path).message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_what_is_no_json_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(ArtifactError, match="does not exist"):
        BenchmarkResults.read(path)
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read as JSON") as caught:
        BenchmarkResults.read(path)
    assert "make benchmark" in caught.value.hint


# The documentation


def test_the_page_says_what_the_models_say() -> None:
    page = (ROOT / "artifacts/README.md").read_text(encoding="utf-8")
    assert page == documentation.page(), "run `make artifacts/README.md`"


def test_the_page_prints_itself() -> None:
    command = [sys.executable, "-m", "pipeline.artifacts.documentation"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, documentation.page()), done.stderr


def test_every_field_of_every_file_is_on_the_page(run: dict[type[Artifact], list[File]]) -> None:
    sections = documentation.page().split("\n## ")
    for kind in PUBLISHED:
        (section,) = [one for one in sections if one.startswith(kind.PATH.replace("*/", "<…>/", 1))]
        for name, info in kind.model_fields.items():
            assert f"| `{info.alias or name}` |" in section


def test_the_schemas_accept_a_runs_files(files: list[File]) -> None:
    validator = schema_of(files[0].kind)
    for file in files:
        assert list(validator.iter_errors(file.tree)) == []


def test_the_schemas_refuse_damaged_files(files: list[File]) -> None:
    file, validator = files[0], schema_of(files[0].kind)
    required = [info.alias or name for name, info in file.kind.model_fields.items() if info.is_required()]
    for key in required:
        assert not validator.is_valid({name: value for name, value in file.tree.items() if name != key}), key
    assert not validator.is_valid(file.tree | {"schema": file.kind.schema_number() + 1})
    assert not validator.is_valid({key: value for key, value in file.tree.items() if key != "schema"})
    for place in every_object(file):
        assert not validator.is_valid(placed(file.tree, place, lambda one: one.update(surprise=1))), place


def schema_of(kind: type[Artifact]) -> jsonschema.Draft202012Validator:
    schema = json.loads(documentation.schemas()[f"{documentation._stem(kind)}.schema.json"])
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_each_model_has_a_schema_of_its_own_name() -> None:
    assert len(documentation.schemas()) == len(PUBLISHED)


def test_a_run_publishes_the_schemas(main_job: Path) -> None:
    folder = main_job / "artifacts" / documentation.SCHEMAS
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == documentation.schemas()


def test_schemas_that_are_there_already_are_left_and_others_written_anew(tmp_path: Path) -> None:
    documentation.publish_schemas(tmp_path)
    same, other = (tmp_path / documentation.SCHEMAS / f"{name}.schema.json" for name in ("results", "parity"))
    before = same.stat().st_mtime_ns
    other.write_text(other.read_text() + " ")  # of another version
    documentation.publish_schemas(tmp_path)
    assert same.stat().st_mtime_ns == before
    assert other.read_text(encoding="utf-8") == documentation.schemas()[other.name]


def test_jsonschema_is_not_needed_to_run(tmp_path: Path) -> None:
    """It is here by way of another package, and readers in other languages have their own."""
    program = (
        "import sys; sys.modules['jsonschema'] = None\n"
        "from pathlib import Path\nfrom pipeline.artifacts import documentation\n"
        "documentation.publish_schemas(Path(sys.argv[1])); documentation.page()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
