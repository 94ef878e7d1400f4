"""A tuning record is followed on the machine, for the graph and by the library it was made for, and nowhere else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import digests, environment
from pipeline.artifacts.engine import TunedBatch, TunedRunner, TuningRecord
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.runner import Step
from pipeline.errors import ArtifactError
from pipeline.runners import tuning_record

STEPS = (Step(batch=1, threads=1), Step(batch=2), Step(batch=256, chunk=128))
SHA256 = "a" * 64


def tuned(backend: str, variant: str, steps: tuple[Step, ...]) -> TunedRunner:
    versions = tuning_record.versions(backend)
    measured = (TunedBatch(batch=1, ways=()),)
    return TunedRunner(backend=backend, variant=variant, versions=versions, steps=steps, measured=measured)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record for this machine."""
    one, other = tuned("onnxruntime", "cpu", STEPS), tuned("onnxruntime", "cuda", ())
    tuning_record.record(SHA256, [one, other]).write(tmp_path / "tuning.json")
    return tmp_path / "tuning.json"


def read(path: Path, variant: str = "cpu", sha256: str = SHA256) -> tuning_record.Followed:
    return tuning_record.read(TuningRecord.read(path), "onnxruntime", variant, sha256)


def test_a_record_is_read_back(path: Path) -> None:
    assert read(path) == (STEPS, "")
    assert tuning_record.steps(TuningRecord.read(path), "onnxruntime", "cpu", SHA256) == STEPS
    assert read(path, "cuda") == ((), "nothing was faster than the library's default")


def test_the_file_tells_for_what_it_is_true(path: Path) -> None:
    found = TuningRecord.read(path)
    assert (found.machine.cpu, found.machine.cores) == (environment.cpu_name(), environment.cpu_count())
    assert found.onnx_sha256 == SHA256
    assert set(found.runners[0].versions) == {"onnxruntime"}
    assert found.runners[0].versions["onnxruntime"][0].isdigit()


def change(*keys: str | int, value: Any) -> Callable[[Any], None]:
    def apply(tree: Any) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (change("machine", "cpu", value="Z80"), "another machine: Z80"),
        (change("machine", "cores", value=1000), "1000 cores"),
        (change("onnx_sha256", value="b" * 64), "another graph"),
        (change("runners", 0, "versions", "onnxruntime", value="0.1"), "for {'onnxruntime': '0.1'}"),
        (change("runners", 0, "versions", value={}), "for {}"),
        (change("runners", value=[]), "onnxruntime cpu was not tuned"),
    ],
)
def test_another_machine_graph_or_library_leaves_it_aside(path: Path, edit: Callable[[Any], None], reason: str) -> None:
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))
    found = read(path)
    assert found.steps == ()
    assert reason in found.reason


@pytest.mark.parametrize(
    "edit",
    [
        change("schema", value=1),
        change("runners", 0, "steps", 0, "chunk", value=0),
        change("runners", 0, "steps", value=[{"chunk": 1}]),
        change("runners", 0, "steps", value=None),
    ],
)
def test_a_broken_record_is_no_record(path: Path, edit: Callable[[Any], None]) -> None:
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(ArtifactError, match=r"tuning\.json") as caught:
        read(path)
    assert "make engine" in caught.value.hint


def test_another_gpu_matters_to_what_runs_on_it(path: Path) -> None:
    tree = json.loads(path.read_text())
    tree["machine"]["gpus"] = ["another"]
    path.write_text(json.dumps(tree))
    assert read(path, "cuda").reason == "the tuning record is for other GPUs: another"
    assert read(path).steps == STEPS


def test_without_a_record_it_is_said_what_would_make_one() -> None:
    found = tuning_record.read(None, "onnxruntime", "cpu", SHA256)
    assert found.steps == ()
    assert "engine.tune" in found.reason


def test_steps_are_told_to_people() -> None:
    assert tuning_record.describe(STEPS) == (
        "from batch 1: 1 thread, from batch 2: as the library does by default, from batch 256: chunks of 128"
    )
    steps = (Step(batch=64, chunk=32, streams=3),)
    assert tuning_record.describe(steps) == "from batch 64: chunks of 32 and 3 streams"
    assert tuning_record.describe(()) == "the library's default is fastest"


def test_the_engine_stage_tunes_where_a_cpu_has_the_arithmetic(main_job: Path) -> None:
    folder = main_job / "artifacts/engine"
    record = TuningRecord.read(folder / "fp32/tuning.json")
    found = tuning_record.read(record, "onnxruntime", "cpu", digests.of_file(folder / "fp32/model.onnx"))
    assert found.steps or found.reason == "nothing was faster than the library's default"
    (entry,) = [one for one in record.runners if (one.backend, one.variant) == ("onnxruntime", "cpu")]
    assert entry.measured[0].batch == 1
    assert not (folder / "tf32/tuning.json").exists()
    manifest = Manifest.read(folder / "manifest.json")
    assert "fp32/tuning.json" in manifest.outputs
    # On another processor everything must be tuned anew.
    assert manifest.fingerprint.hardware is not None
    assert manifest.fingerprint.hardware.cpu == environment.cpu_name()
    assert manifest.fingerprint.hardware.cores == environment.cpu_count()
