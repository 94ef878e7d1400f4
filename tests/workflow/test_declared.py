"""A stage is given what it declared and nothing else: what it can read makes it run again where it changes."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.store import Published, Store
from pipeline.config import Benchmark, Config, Data, Train
from pipeline.config.section import Section
from pipeline.stages import ON_DEMAND, STAGES
from pipeline.workflow import declared, run
from pipeline.workflow.context import Context, Outcome
from pipeline.workflow.stage import Stage

CONFIG = Config(train=Train(epochs=7), benchmark=Benchmark(threads=3, seconds=2.0), data=Data(name="digits"))


def stage(entry: str = "", **changes: Any) -> Stage:
    known: dict[str, Any] = {
        "name": "made",
        "entry": f"{__name__}:{entry}",
        "needs": (),
        "sections": ("train", "benchmark.threads"),
        "places": ("data",),
        "hardware": False,
        "help": "",
    }
    return Stage(**known | changes)


# The configuration


def test_declared_sections_keys_and_places_are_there() -> None:
    view = declared.view(CONFIG, stage())
    assert view.train == CONFIG.train
    assert view.benchmark.threads == 3
    assert view.data == CONFIG.data, "a place may be read"
    assert view.artifacts == CONFIG.artifacts


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda view: view.engine.precisions, "stage made reads engine.precisions, undeclared"),
        (lambda view: view.benchmark.seconds, "stage made reads benchmark.seconds, undeclared"),
        (lambda view: view.validate_.budget, "stage made reads validate.budget"),
        (lambda view: view.benchmark.cell_seconds, "stage made reads benchmark.cell_seconds"),
        (lambda view: view.benchmark.model_dump(), "stage made reads benchmark.model_dump"),
        (lambda view: hasattr(view.engine, "tune"), "stage made reads engine.tune"),
    ],
)
def test_what_was_not_declared_raises_and_is_named(read: Callable[[Config], object], said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        read(declared.view(CONFIG, stage()))


def test_the_configuration_itself_is_left_as_it_was() -> None:
    before = CONFIG.model_dump()
    declared.view(CONFIG, stage())
    assert CONFIG.model_dump() == before
    assert CONFIG.engine.precisions


def test_what_is_obeyed_is_what_makes_the_stage_run_again() -> None:
    assert declared.obeyed(CONFIG, stage()) == {"train": CONFIG.section("train"), "benchmark": {"threads": 3}}
    two = stage(sections=("benchmark.threads", "benchmark.seconds", "validate.budget"))
    assert declared.obeyed(CONFIG, two) == {
        "benchmark": {"threads": 3, "seconds": 2.0},
        "validate": {"budget": CONFIG.validate_.budget},
    }


@pytest.mark.parametrize("one", [*STAGES.values(), *ON_DEMAND.values()], ids=lambda one: one.name)
def test_every_stage_declares_sections_and_keys_that_there_are(one: Stage) -> None:
    obeyed = declared.obeyed(CONFIG, one)
    assert obeyed.keys() == {name.partition(".")[0] for name in one.sections}
    view = declared.view(CONFIG, one)
    for name in (*one.sections, *one.places):
        section, _, key = name.partition(".")
        found = getattr(view, "validate_" if section == "validate" else section)
        assert getattr(found, key) is not None or key == "threads" if key else isinstance(found, Section)
    assert not {need.partition("/")[0] for need in one.needs} - STAGES.keys()
    assert set(one.optional) <= {need.partition("/")[0] for need in one.needs}


def test_the_view_can_be_pickled_and_copied_and_still_raises() -> None:
    view = declared.view(CONFIG, stage())
    for other in (pickle.loads(pickle.dumps(view)), copy.deepcopy(view), copy.copy(view)):
        assert (other.train.epochs, other.benchmark.threads) == (7, 3)
        with pytest.raises(RuntimeError, match=r"stage made reads benchmark\.seconds"):
            _ = other.benchmark.seconds


def read_there(config: Config, pipe: Any) -> None:
    try:
        pipe.send((config.benchmark.threads, str(config.benchmark.seconds)))
    except RuntimeError as error:
        pipe.send(str(error))


def test_the_view_reaches_another_process() -> None:
    """As LoadGen's does."""
    here, there = multiprocessing.Pipe()
    view = declared.view(CONFIG, stage())
    process = multiprocessing.get_context("spawn").Process(target=read_there, args=(view, there))
    process.start()
    assert here.poll(60)
    assert "stage made reads benchmark.seconds" in here.recv()
    process.join()
    assert process.exitcode == 0


# The artifacts


@pytest.fixture
def published(main_job: Path) -> Published:
    """What a stage is given that declared one file and all of a stage. Read only."""
    root = main_job / "artifacts"
    manifests = {name: Manifest.read(root / name / "manifest.json") for name in ("train", "engine", "validate")}
    return Published(root, manifests, declared=("train/model.keras", "engine/"))


def test_declared_artifacts_are_there(published: Published) -> None:
    assert published.path("train/model.keras").is_file()
    assert published.has("engine/fp32/engine.json")
    assert not published.has("engine/fp32/nothing.json")
    assert published.names("train") == ["train/model.keras"], "of a stage no more than was declared"
    assert len(published.names("engine")) > 3
    assert len(published.sha256("train/model.keras")) == 64


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (lambda published: published.path("train/dataset.json"), "train/dataset.json"),
        (lambda published: published.sha256("train/history.json"), "train/history.json"),
        (lambda published: published.read(ParityReport), ParityReport.PATH),
        (lambda published: published.read_if_there(ParityReport), ParityReport.PATH),
        (lambda published: published.has("train/dataset.json"), "train/dataset.json"),
        (lambda published: published.path("export/model.onnx"), "export/model.onnx"),
        (lambda published: published.read_if_there(BenchmarkResults), BenchmarkResults.PATH),
    ],
)
def test_an_artifact_that_was_not_declared_raises_and_is_named(
    published: Published, read: Callable[[Published], object], name: str
) -> None:
    with pytest.raises(RuntimeError, match=f"{name} is read but not declared"):
        read(published)


def test_an_optional_stage_that_is_not_there_has_nothing_to_read(main_job: Path) -> None:
    found = Published(main_job / "artifacts", {}, declared=("benchmark/",))
    assert found.names("benchmark") == []
    assert found.read_if_there(BenchmarkResults) is None


# A stage that is run


def within(context: Context) -> Outcome:
    (context.output / "epochs").write_text(f"{context.config.train.epochs} {context.config.benchmark.threads}")
    return Outcome()


def reads_a_key(context: Context) -> Outcome:
    (context.output / "file").write_text(str(context.config.benchmark.rounds))
    return Outcome()


def reads_a_file(context: Context) -> Outcome:
    context.published.path("train/model.keras")
    return Outcome()


def test_a_stage_that_keeps_to_what_it_declared_is_published(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"artifacts": tmp_path})
    run.run(stage("within"), config, Console(quiet=True))
    assert (tmp_path / "made/epochs").read_text() == "7 3"
    manifest = Store(tmp_path).verified("made")
    assert manifest.fingerprint.configuration["benchmark"] == {"threads": 3}
    assert "data" not in manifest.fingerprint.configuration, "where data are does not matter, what they are is an input"


@pytest.mark.parametrize(
    ("entry", "said"),
    [("reads_a_key", r"made reads benchmark\.rounds"), ("reads_a_file", r"train/model\.keras is read")],
)
def test_a_stage_that_reads_more_is_a_bug_and_publishes_nothing(tmp_path: Path, entry: str, said: str) -> None:
    config = CONFIG.model_copy(update={"artifacts": tmp_path})
    with pytest.raises(RuntimeError, match=said):
        run.run(stage(entry), config, Console(quiet=True))
    assert not (tmp_path / "made").exists()
