"""The one list of runners: what is judged, timed and served is the same, with the same options."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_run import publish

from pipeline import backends, digests, environment, runners
from pipeline.artifacts.engine import BatchProfile, EngineRecord, TunedRunner, TuningRecord
from pipeline.artifacts.manifest import FileRecord
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.runner import BatchRange, RunnerOptions, Step
from pipeline.artifacts.store import Published, Store
from pipeline.errors import ArtifactError, BackendUnavailable
from pipeline.runners import Purpose, Runner, tuning_record

STEPS = (Step(batch=8, chunk=4),)


def listed(published: Published, purpose: Purpose = "time", threads: int | None = 2) -> dict[str, Runner]:
    found = runners.runners(published, purpose, modules=(), threads=threads)
    by_name = {one.record.name: one for one in found}
    assert len(by_name) == len(found), "a name is one runner's"
    return by_name


@pytest.fixture
def published(main_job: Path) -> Published:
    """What the main job published. Read only."""
    return Store(main_job / "artifacts").published()


@pytest.fixture
def root(main_job: Path, tmp_path: Path) -> Path:
    """A copy of the first three stages of the main job, to be changed and published anew."""
    for stage in ("train", "export", "engine"):
        shutil.copytree(main_job / "artifacts" / stage, tmp_path / stage)
    return tmp_path


def rewritten(root: Path, precision: str, **changes: object) -> EngineRecord:
    """Change an engine record, and publish the stage anew."""
    path = root / "engine" / precision / "engine.json"
    record = EngineRecord.read(path).model_copy(update=changes)
    record.write(path)
    publish(root, "engine")
    return record


def built(root: Path, precision: str, flavour: str) -> FileRecord:
    """Put something where an engine would be."""
    path = root / "engine" / precision / "model.engine"
    path.write_bytes(b"engine")
    file = FileRecord(sha256=digests.of_file(path), bytes=path.stat().st_size)
    profiles = BatchProfile(min=9, opt=32, max=32), BatchProfile(min=2, opt=8, max=8)
    rewritten(root, precision, flavour=flavour, status="built", engine=file, profiles=profiles)
    return file


def test_what_is_timed_is_what_was_judged_with_the_same_options(published: Published) -> None:
    judged, timed, served = (listed(published, purpose) for purpose in ("judge", "time", "serve"))
    exported = [one.record for one in judged.values() if one.record.role == "exported"]
    assert exported == [one.record for one in timed.values() if one.record.role == "exported"]
    assert exported == [one.record for one in served.values() if one.record.role == "exported"]
    cpu = timed["onnxruntime cpu fp32"].record
    assert cpu.options.threads == 2
    assert cpu.options.exact is False
    other = listed(published, "time", threads=1)["onnxruntime cpu fp32"].record
    assert other != cpu, "another number of threads is another runner"


def test_the_run_published_what_the_list_says(published: Published) -> None:
    """The stages themselves: every cell's runner is one that was judged, and none is missing."""
    parity, results = published.read(ParityReport), published.read(BenchmarkResults)
    assert [row.runner for row in parity.runners] == [one.record for one in listed(published, "judge").values()]
    timed = dict.fromkeys(cell.runner for cell in results.cells if not cell.repeat)
    assert list(timed) == [one.record for one in listed(published, "time").values()]
    for runner in timed:
        assert runner.role != "exported" or parity.judged(runner) is not None


def test_the_list_for_each_purpose(published: Published) -> None:
    roles = {
        purpose: list(dict.fromkeys(one.record.role for one in listed(published, purpose).values()))
        for purpose in ("judge", "time", "serve")
    }
    assert roles == {
        "judge": ["exact", "exported"],
        "time": ["original", "harness", "exported"],
        "serve": ["exported", "exact"],
    }
    judged = [one.record.name for one in listed(published, "judge").values() if one.record.role == "exact"]
    assert judged == ["keras", "saved_model", "onnx", "typed fp32", "typed tf32", "typed fp16"]
    originals = [name for name, one in listed(published).items() if one.record.role == "original"]
    assert originals == [f"tensorflow {variant}" for variant in backends.get("tensorflow").VARIANTS]


def test_every_file_is_named_with_the_digest_it_was_published_with(published: Published) -> None:
    for purpose in ("judge", "time"):
        for one in listed(published, purpose).values():
            path = published.root / one.record.file
            assert one.path == path
            assert one.record.sha256 == (digests.of_file(path) if path.is_file() else None), one.record.name


def test_a_precision_that_a_cpu_lacks_says_why(published: Published) -> None:
    timed = listed(published)
    for name in ("onnxruntime cpu fp16", "openvino cpu fp16", "onnxruntime cpu tf32"):
        assert "a CPU has no" in timed[name].unavailable
        with pytest.raises(BackendUnavailable, match="timing it would mean nothing"), timed[name].open():
            pass
    assert timed["onnxruntime cpu fp32"].unavailable == ""


def test_an_exact_run_of_such_a_precision_is_emulated_and_says_so(published: Published) -> None:
    judged = listed(published, "judge")
    assert judged["typed fp16"].record.emulated
    assert not judged["typed fp32"].record.emulated
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    scores = {}
    for name in ("typed fp32", "typed fp16"):
        with judged[name].open() as session:
            assert session.device == "cpu"
            scores[name] = session.run({session.inputs[0].name: images})["probabilities"].copy()
    assert 0 < np.abs(scores["typed fp16"] - scores["typed fp32"]).max() < 0.01


def test_what_was_published_and_changed_since_is_not_opened(root: Path) -> None:
    publish(root, "engine")
    timed, judged = (listed(Store(root).published(), purpose) for purpose in ("time", "judge"))
    for precision in ("fp32", "fp16"):
        path = root / "engine" / precision / "model.onnx"
        path.write_bytes(path.read_bytes() + b"\0")
    for one in (timed["onnxruntime cpu fp32"], judged["typed fp32"], judged["typed fp16"]):
        with pytest.raises(ArtifactError, match="changed since it was published"), one.open():
            pass


@pytest.mark.parametrize(("flavour", "other"), [("tensorrt", "tensorrt-rtx"), ("tensorrt-rtx", "tensorrt")])
def test_an_engine_is_run_by_what_built_it_only(root: Path, flavour: str, other: str) -> None:
    file = built(root, "fp32", flavour)
    timed = listed(Store(root).published())
    assert f"tensorrt {other} fp32" not in timed
    engine = timed[f"tensorrt {flavour} fp32"]
    assert engine.record.batches == BatchRange(smallest=2, largest=32)
    assert (engine.record.file, engine.record.sha256) == ("engine/fp32/model.engine", file.sha256)
    assert (engine.device, engine.unavailable) == ("cuda", "")
    assert engine.record.options.threads is None, "a GPU's runner has none"


def test_a_precision_without_an_engine_or_a_graph_says_why(root: Path) -> None:
    rewritten(root, "fp16", status="failed", reason="the builder said no", engine=None, onnx=None)
    published = Store(root).published()
    timed, judged = listed(published), listed(published, "judge")
    (engine,) = [one for name, one in timed.items() if name.startswith("tensorrt") and name.endswith("fp16")]
    assert engine.unavailable == "no engine: the builder said no"
    assert timed["onnxruntime cuda fp16"].unavailable == "no typed graph: the builder said no"
    assert timed["onnxruntime cuda fp16"].record.options.steps == ()
    assert judged["typed fp16"].unavailable == "no typed graph: the builder said no"


def test_tf32_is_allowed_to_a_graph_and_was_decided_in_an_engine(root: Path) -> None:
    built(root, "tf32", "tensorrt")
    timed = listed(Store(root).published())
    assert timed["onnxruntime cuda tf32"].record.options.allow_tf32
    assert not timed["tensorrt tensorrt tf32"].record.options.allow_tf32
    assert not timed["onnxruntime cuda fp32"].record.options.allow_tf32


def tune(root: Path, *, sha256: str = "", cpu: str = "", versions: dict[str, str] | None = None) -> Published:
    """Publish a tuning record of fp32 for ONNX Runtime, true of this machine unless told otherwise."""
    graph = root / "engine/fp32/model.onnx"
    versions = tuning_record.versions("onnxruntime") if versions is None else versions
    one = TunedRunner(backend="onnxruntime", variant="cpu", versions=versions, steps=STEPS, measured=())
    record = tuning_record.record(sha256 or digests.of_file(graph), [one])
    if cpu:
        record = record.model_copy(update={"machine": record.machine.model_copy(update={"cpu": cpu})})
    record.write(graph.with_name("tuning.json"))
    publish(root, "engine")
    assert Store(root).published().read(TuningRecord, "engine/fp32/tuning.json") == record
    return Store(root).published()


def test_steps_are_followed_by_what_was_tuned(root: Path) -> None:
    published = tune(root)
    for purpose in ("judge", "time", "serve"):
        found = listed(published, purpose)
        assert found["onnxruntime cpu fp32"].record.options == RunnerOptions(threads=2, steps=STEPS)
        assert found["openvino cpu fp32"].record.options.steps == ()
        assert found["onnxruntime cpu tf32"].record.options.steps == (), "a record is one precision's"
    assert listed(published, "judge")["typed fp32"].record.options == RunnerOptions(exact=True)
    with listed(published)["onnxruntime cpu fp32"].open() as session:
        session.run({session.inputs[0].name: np.zeros((16, 28, 28, 1), np.uint8)})
        assert session.settings["chunk"] == 4


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"cpu": "Z80"}, {"versions": {"onnxruntime": "0.1"}}])
def test_steps_of_another_graph_machine_or_version_are_left_aside(root: Path, change: dict[str, object]) -> None:
    found = listed(tune(root, **change))["onnxruntime cpu fp32"]
    assert found.record.options == RunnerOptions(threads=2)


def test_what_this_machine_lacks_is_found_out_by_probing(published: Published) -> None:
    timed = listed(published)
    fp32 = timed["onnxruntime cpu fp32"]
    assert runners.probed(fp32) == fp32
    fp16 = timed["onnxruntime cpu fp16"]
    assert runners.probed(fp16) == fp16, "a reason that is there stays"
    cuda = timed["onnxruntime cuda fp32"]
    assert cuda.unavailable == "", "the list itself probes nothing"
    if not environment.gpus():
        assert "needs an NVIDIA GPU" in runners.probed(cuda).unavailable


def test_precisions_come_the_widest_first(published: Published) -> None:
    assert [record.precision for record in runners.engine_records(published)] == ["fp32", "tf32", "fp16"]


def test_what_was_not_published_is_no_runner(root: Path) -> None:
    (root / "export/model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        listed(Store(root).published(), "judge")
