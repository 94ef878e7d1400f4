"""What localise and loadgen publish again of an earlier run: as it was, or not at all."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from made_store import content, publish, refusal
from rich.console import Console
from test_records import MADE

from pipeline.artifacts.loadgen import LoadgenResult
from pipeline.artifacts.sensitivity import LayerSensitivity
from pipeline.artifacts.store import Store
from pipeline.config import Config
from pipeline.stages import loadgen, localise
from pipeline.workflow import run
from pipeline.workflow.context import Context, Outcome
from pipeline.workflow.stage import Stage

GRAPH, SHA256 = b"graph", hashlib.sha256(b"graph").hexdigest()
NEW = {"localise": "int8.json", "loadgen": "server-performance/result.json"}


def carries_localise(context: Context) -> Outcome:
    """As the stage does, with a result that takes no time."""
    localise._keep_others(context, NEW["localise"])
    (context.output / NEW["localise"]).write_text("{}")
    return Outcome()


def carries_loadgen(context: Context) -> Outcome:
    loadgen._keep_others(context, "server-performance")
    (context.output / "server-performance").mkdir()
    (context.output / NEW["loadgen"]).write_text("{}")
    return Outcome()


def run_stage(store: Store, name: str) -> None:
    needs = ("export/model.onnx", "engine/")
    stage = Stage(name, f"{__name__}:carries_{name}", needs, (), hardware=False, help="")
    run.run(stage, Config(artifacts=store.root), Console(quiet=True), force=True)


@pytest.fixture
def earlier(tmp_path: Path) -> Store:
    """Return a store with a result of either stage, of the model that is published."""
    store = Store(tmp_path / "artifacts")
    publish(store, "export", {"model.onnx": GRAPH})
    publish(store, "engine", {"fp32/model.onnx": GRAPH})
    sensitivity, result = MADE["localise/fp16.json"], MADE["loadgen/offline-accuracy/result.json"]
    assert isinstance(sensitivity, LayerSensitivity)
    assert isinstance(result, LoadgenResult)
    runner = result.runner.model_copy(update={"file": "engine/fp32/model.onnx", "sha256": SHA256})
    texts = {
        "localise": {"fp16.json": sensitivity.model_copy(update={"model_sha256": SHA256}).to_json()},
        "loadgen": {
            "offline-accuracy/result.json": result.model_copy(update={"runner": runner}).to_json(),
            "offline-accuracy/mlperf_log_summary.txt": "Result is : VALID",
        },
    }
    for stage, files in texts.items():
        publish(store, stage, {name: text.encode() for name, text in files.items()})
    return store


CARRIED = [
    ("localise", "fp16.json"),
    ("loadgen", "offline-accuracy/result.json"),
    ("loadgen", "offline-accuracy/mlperf_log_summary.txt"),
]


@pytest.mark.parametrize(("stage", "name"), CARRIED)
def test_results_of_the_same_model_stay_beside_the_new_one(earlier: Store, stage: str, name: str) -> None:
    before = content(earlier, stage)
    run_stage(earlier, stage)
    assert content(earlier, stage) == before | {NEW[stage]: b"{}"}
    assert name in before


def change(path: Path) -> None:
    """Change it so that it still reads as what it is."""
    path.write_bytes(path.read_bytes().replace(b"VALID", b"valid").replace(b"180", b"181").replace(b"0.9", b"0.8"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("damage", [change, cut, empty, binary, Path.unlink])
@pytest.mark.parametrize(("stage", "name"), CARRIED)
def test_damage_is_not_published_again_under_a_new_digest(
    earlier: Store, stage: str, name: str, damage: Callable[[Path], None]
) -> None:
    manifest = earlier.manifest(stage)
    damage(earlier.folder(stage) / name)
    refusal(lambda: run_stage(earlier, stage), name, "nothing is carried over")
    assert earlier.manifest(stage) == manifest, "what was published is as it was, damage and all"


@pytest.mark.parametrize("stage", NEW)
def test_what_has_a_damaged_manifest_or_one_of_another_version_is_not_carried_over(earlier: Store, stage: str) -> None:
    path = earlier.folder(stage) / "manifest.json"
    path.write_text(path.read_text().replace('"seconds": 1.5', '"seconds": 2.5'))
    refusal(lambda: run_stage(earlier, stage), "its own SHA-256", "nothing is carried over")
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    refusal(lambda: run_stage(earlier, stage), "schema 1", "nothing is carried over")


@pytest.mark.parametrize("stage", NEW)
def test_a_stray_file_is_neither_carried_over_nor_lost(earlier: Store, stage: str) -> None:
    stray = earlier.folder(stage) / "stray/result.json"
    stray.parent.mkdir()
    stray.write_text("mine")
    refusal(lambda: run_stage(earlier, stage), "stray/result.json", "Move that away")
    assert stray.read_text() == "mine"
