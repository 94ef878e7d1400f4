"""Nothing of the user's is lost: a folder that the pipeline did not publish, and a file in one, stay as they are."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from made_store import FILES, NEW, content, fill, publish, refusal
from rich.console import Console

from pipeline.artifacts import documentation
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.store import MANIFEST, Store
from pipeline.config import Config
from pipeline.config.loading import load
from pipeline.errors import ArtifactError, ConfigError, NotPublished
from pipeline.stages import STAGES
from pipeline.workflow import run


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def photographs(folder: Path) -> None:
    (folder / "2026").mkdir(parents=True)
    (folder / "2026/photograph.jpg").write_bytes(b"\xff\xd8")


def other_manifest(folder: Path) -> None:
    """What browsers call a manifest."""
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text('{"name": "an app", "icons": []}')


def of_another_stage(folder: Path) -> None:
    folder.mkdir(parents=True)
    fill(folder, "export", FILES)


def damaged_manifest(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(b"\xff{")


@pytest.mark.parametrize("made", [photographs, other_manifest, of_another_stage, damaged_manifest])
@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_of_the_users_is_refused_and_stays(tmp_path: Path, stage: str, made: Callable[[Path], None]) -> None:
    if (made, stage) == (of_another_stage, "export"):
        pytest.skip("it is this stage's")
    store = Store(tmp_path)
    made(store.folder(stage))
    before = everything(tmp_path)
    refusal(lambda: publish(store, stage, NEW), str(store.folder(stage)), "not published by", "Move it away")
    assert everything(tmp_path) == before


def a_file(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def a_deep_file(folder: Path) -> None:
    (folder / "saved_model/variables/notes.txt").write_text("mine")


def a_link(folder: Path) -> None:
    (folder / "notes.txt").symlink_to("/nowhere")


@pytest.mark.parametrize("added", [a_file, a_deep_file, a_link])
def test_a_file_that_no_manifest_names_is_refused_and_stays(store: Store, added: Callable[[Path], None]) -> None:
    added(store.folder("train"))
    refusal(lambda: publish(store, "train", NEW), "notes.txt", "Move that away")
    assert store.verified("train").outputs.keys() == FILES.keys()
    assert [path.name for path in store.folder("train").rglob("notes.txt")] or (
        store.folder("train") / "notes.txt"
    ).is_symlink()
    assert [path.name for path in store.root.iterdir()] == ["train"]


def test_a_file_that_came_while_the_stage_ran_is_not_lost(store: Store) -> None:
    def during() -> None:
        with store.publish("train") as folder:
            fill(folder, "train", NEW)
            a_file(store.folder("train"))

    refusal(during, "notes.txt")
    assert (store.folder("train") / "notes.txt").read_text() == "mine"


def test_a_stages_folder_that_is_a_link_is_refused_and_can_be_read(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    store.folder("train").rename(elsewhere)
    store.folder("train").symlink_to(elsewhere)
    for _ in range(2):
        refusal(lambda: publish(store, "train", NEW), "is a link", "Delete the link")
    assert content(store) == FILES


def test_a_stages_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("mine")
    refusal(lambda: publish(Store(tmp_path), "train", NEW), "is a file")
    assert (tmp_path / "train").read_text() == "mine"


@pytest.mark.parametrize("empty", [lambda path: path.mkdir(), lambda path: None])
def test_an_empty_folder_is_published_into(tmp_path: Path, empty: Callable[[Path], None]) -> None:
    empty(tmp_path / "train")
    publish(Store(tmp_path), "train", NEW)
    assert content(Store(tmp_path)) == NEW


def test_what_another_version_published_or_what_has_changed_is_still_the_pipelines(store: Store) -> None:
    path = store.folder("train") / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    refusal(lambda: store.verified("train"), "has schema 1, not 2", "make train")
    (store.folder("train") / "model.keras").write_bytes(b"damaged")
    publish(store, "train", NEW)
    assert content(store) == NEW


def test_a_schema_of_somebody_elses_is_not_overwritten(tmp_path: Path) -> None:
    documentation.publish_schemas(tmp_path)
    path = tmp_path / "schemas/manifest.schema.json"
    path.write_text(path.read_text() + " ")  # of another version
    documentation.publish_schemas(tmp_path)
    path.write_text('{"title": "Mine"}')
    refusal(lambda: documentation.publish_schemas(tmp_path), "none of the pipeline's schemas")
    assert path.read_text() == '{"title": "Mine"}'


# Every bit of a manifest


def test_every_flipped_bit_of_a_manifest_is_found(store: Store) -> None:
    path = store.folder("train") / MANIFEST
    manifest = Manifest.read(path)
    # A number of which JSON has more than one spelling.
    fingerprint = manifest.fingerprint.model_copy(update={"configuration": {"train": {"learning_rate": 1e-05}}})
    manifest.model_copy(update={"fingerprint": fingerprint}).write(path)
    whole, missed = path.read_bytes(), []
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with suppress(ArtifactError):
                store.manifest("train")
                missed.append((place, bit))
    assert missed == []


# Folders that were mistyped


@pytest.mark.parametrize("value", ["", " ", "a\0b"])
def test_artifacts_has_to_name_a_folder(value: str) -> None:
    with pytest.raises(ConfigError, match=r"artifacts = .* must name a folder"):
        load(None, [f"artifacts={value}"])


@pytest.mark.parametrize("stage", [name for name, one in STAGES.items() if one.needs])
def test_a_stage_that_reads_makes_nothing_in_a_folder_that_has_nothing(tmp_path: Path, stage: str) -> None:
    for root in (tmp_path / "mistyped", tmp_path):
        with pytest.raises(NotPublished, match="has no artifact yet"):
            run.run(STAGES[stage], Config(artifacts=root), Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_file_system_takes_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / ("a" * 300)
    for stage in ("train", "export"):
        refusal(
            lambda stage=stage: run.run(STAGES[stage], Config(artifacts=root), Console(quiet=True)),
            "File name too long",
        )


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_no_folder_is_said_as_that(tmp_path: Path, stage: str) -> None:
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", Path("/dev/null")):
        refusal(lambda root=root: run.run(STAGES[stage], Config(artifacts=root), Console(quiet=True)), "not a folder")
    assert (tmp_path / "file").read_text() == "mine"
