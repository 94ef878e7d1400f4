"""Records under a right digest that say something else: a valid record comes of it, or an error that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import made_run
import pytest
from commands import run_here
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rare import EVERY, TUNING
from resealing import places, reseal, reseal_bundle

from pipeline import checkup, compare, predict, scoring, serving
from pipeline.artifacts import PUBLISHED, Artifact
from pipeline.artifacts.engine import TuningRecord
from pipeline.artifacts.results import BenchmarkResults
from pipeline.config.loading import load
from pipeline.deployment import verify
from pipeline.errors import ArtifactError

DEPTH = 100_000
VALUES = (
    *(None, True, -1, 0, 7, 2**63, 10**400, 1e308, -0.0, float("nan"), float("inf"), "", "x", "9" * 5000, [], {}),
    *("\0", "\ud800", "a\udcff", "<script>", "float99", "0001-01-01T00:00:00", [[]], {"": 0}, {"\ud800": "\ud800"}),
)
BROKEN = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"schema": "\xff"}',
    "deep": b'{"schema": ' + b"[" * DEPTH + b"]" * DEPTH + b"}",
    "deep objects": b'{"a": ' * DEPTH,
    "NaN": b'{"schema": NaN}',
    "digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "a list": b"[1, 2]",
    "text": b'"text"',
}


class File(NamedTuple):
    """A record's text, and its model."""

    kind: type[Artifact]
    text: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was made from the records' models. Read only."""
    root = tmp_path_factory.mktemp("run") / "artifacts"
    made_run.make(root)
    return root


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[File]:
    """A file of every kind."""
    rare = tmp_path_factory.mktemp("rare")
    for name, artifact in EVERY.items():
        (rare / name).parent.mkdir(parents=True, exist_ok=True)
        artifact.write(rare / name)
    found = [
        File(kind, path.read_text(encoding="utf-8"))
        for kind in PUBLISHED
        for root in (run, rare)
        for path in sorted(root.glob(kind.PATH))[:1]
    ]
    assert {one.kind for one in found} == {*PUBLISHED}
    return found


def changed(tree: Any, draw: Callable[..., Any]) -> str:
    """Return a record's text with one or two things in it that are not as they were."""
    for _ in range(draw(st.integers(1, 2))):
        *parents, last = draw(st.sampled_from(places(tree)[1:] or [("schema",)]))
        where = tree
        for key in parents:
            where = where[key]
        how = draw(st.sampled_from(("delete", "replace", "replace", "nest", "add")))
        if how == "delete":
            del where[last]
        elif how == "add" and isinstance(where, dict):
            where["strange"] = 1
        else:
            where[last] = [where[last]] if how == "nest" else draw(st.sampled_from(VALUES))
    text = json.dumps(tree)
    if draw(st.integers(0, 9)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_whatever_a_record_says_it_is_valid_or_refused_by_the_name_of_its_file(
    data: st.DataObject, files: list[File], tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind, text = data.draw(st.sampled_from(files))
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    path.write_text(changed(json.loads(text), data.draw), encoding="utf-8")
    try:
        record = kind.read(path)
    except ArtifactError as error:
        refusal: ArtifactError | None = error
    else:
        refusal = None
        record.write(path)
        assert kind.read(path) == record
    assert refusal is None or str(path) in refusal.message


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_record_is_refused_by_every_kind(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    for kind in PUBLISHED:
        with pytest.raises(ArtifactError, match=r"broken\.json"):
            kind.read(path)


def test_a_tuning_record_of_a_million_threads_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime would start them all."""
    tree = json.loads(TUNING.to_json())
    tree["runners"][0]["steps"][0]["threads"] = 1_000_000
    (tmp_path / "tuning.json").write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(ArtifactError, match="runners/0/steps/0/threads: Input should be less than or equal to"):
        TuningRecord.read(tmp_path / "tuning.json")


# Commands


def options() -> Any:
    return load(None, ["data.name=digits"])


READING: dict[str, tuple[str, Callable[[], object]]] = {
    "report": ("validate/parity.json", lambda: run_here("report")),
    "doctor": ("benchmark/recommendation.json", lambda: checkup.check(Path("artifacts"))),
    "compare": ("benchmark/results.json", lambda: compare.read(Path("artifacts/benchmark/results.json"))),
    "predict": ("train/dataset.json", lambda: predict.predict([Path("x.png")], "auto", "auto", options())),
    "engine": ("train/model.json", lambda: run_here("engine")),
    "validate": ("train/model.json", lambda: run_here("validate")),
    "benchmark": ("validate/parity.json", lambda: run_here("benchmark")),
    "deploy": ("benchmark/recommendation.json", lambda: run_here("deploy")),
}


@pytest.mark.parametrize("command", READING)
def test_a_command_names_the_broken_record_that_it_reads(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, call = READING[command]
    monkeypatch.chdir(run.parent)
    before = {path: path.read_bytes() for path in (run / name, *run.glob("*/manifest.json"))}
    try:
        for content in (BROKEN["deep"], BROKEN["not UTF-8"], BROKEN["a list"]):
            reseal(run, name, content)
            with pytest.raises(ArtifactError, match=Path(name).name):
                call()
    finally:
        for path, content in before.items():
            path.write_bytes(content)


@pytest.mark.parametrize("command", ["verify", "serve", "score"])
def test_a_command_names_the_broken_record_of_a_bundle(command: str, tmp_path: Path) -> None:
    calls: dict[str, Callable[[], object]] = {
        "verify": lambda: verify.verify(tmp_path, options().deploy),
        "serve": lambda: serving.serve(tmp_path, options()),
        "score": lambda: scoring.score(tmp_path, tmp_path / "in", tmp_path / "out", options()),
    }
    for content in (BROKEN["deep"], BROKEN["not UTF-8"], BROKEN["a list"]):
        reseal_bundle(tmp_path, content)
        with pytest.raises(ArtifactError, match=r"bundle\.json"):
            calls[command]()


def test_a_result_of_numbers_beyond_64_bits_is_refused(run: Path, tmp_path: Path) -> None:
    tree = json.loads((run / "benchmark/results.json").read_text(encoding="utf-8"))
    tree["environment"]["settings"] = {"rounds": 10**400}
    (tmp_path / "results.json").write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(ArtifactError, match="more than 64 bits"):
        BenchmarkResults.read(tmp_path / "results.json")
