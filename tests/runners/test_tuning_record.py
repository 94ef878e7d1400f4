"""A plan is followed on the machine, for the graph and by the library that it was made for, and nowhere else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import artifacts, digests, environment
from pipeline.backends import Step
from pipeline.runners import tuning_record

STEPS = (Step(1, threads=1), Step(2), Step(256, chunk=128))
SHA256 = "a" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A plan for this machine."""
    tree = tuning_record.describe(SHA256, {"cpu": (STEPS, [{"batch": 1, "ways": []}]), "cuda": ((), [])})
    (tmp_path / tuning_record.FILE).write_text(artifacts.dump_json(tree), encoding="utf-8")
    return tmp_path / tuning_record.FILE


def test_a_plan_is_read_back(path: Path) -> None:
    assert tuning_record.read(path, "cpu", SHA256) == (STEPS, "")
    assert tuning_record.steps(path, "cpu", SHA256) == STEPS
    assert tuning_record.read(path, "cuda", SHA256) == ((), "nothing was faster than the library's own way")


def test_the_file_tells_for_what_it_is_true(path: Path) -> None:
    tree = json.loads(path.read_text())
    assert tree["schema"] == 1
    assert tree["machine"]["cpu"] == environment.cpu_name()
    assert tree["machine"]["cores"] == environment.cpu_count()
    assert tree["onnx_sha256"] == SHA256
    assert set(tree["versions"]) == {"onnxruntime"}
    assert tree["versions"]["onnxruntime"][0].isdigit()
    assert tree["variants"]["cpu"]["steps"][2] == {"batch": 256, "threads": None, "chunk": 128, "streams": 1}


def change(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(tree: dict[str, Any]) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (change("machine", "cpu", value="Z80"), "another machine: cpu Z80"),
        (change("machine", "cores", value=1000), "another machine: cores 1000"),
        (change("onnx_sha256", value="b" * 64), "another graph"),
        (change("versions", "onnxruntime", value="0.1"), "of onnxruntime 0.1"),
        (change("versions", value={}), "of onnxruntime None"),
        (change("variants", value={}), "nothing about cpu"),
        (change("schema", value=2), "is no plan"),
        (
            change("variants", "cpu", "steps", value=[{"batch": 1, "threads": None, "chunk": 0, "streams": 1}]),
            "no plan",
        ),
        (change("variants", "cpu", "steps", value=[{"batch": 1}]), "is no plan"),
        (change("variants", "cpu", "steps", value=None), "is no plan"),
    ],
)
def test_another_machine_graph_or_library_leaves_it_aside(
    path: Path, edit: Callable[[dict[str, Any]], None], reason: str
) -> None:
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))
    found = tuning_record.read(path, "cpu", SHA256)
    assert found.steps == ()
    assert reason in found.reason


def test_another_gpu_matters_to_what_runs_on_it(path: Path) -> None:
    tree = json.loads(path.read_text())
    tree["machine"]["gpus"] = ["another"]
    path.write_text(json.dumps(tree))
    assert "another machine: gpus" in tuning_record.read(path, "cuda", SHA256).reason
    assert tuning_record.steps(path, "cpu", SHA256) == STEPS


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"words"'])
def test_a_broken_file_is_no_plan(tmp_path: Path, content: bytes) -> None:
    (tmp_path / tuning_record.FILE).write_bytes(content)
    found = tuning_record.read(tmp_path / tuning_record.FILE, "cpu", SHA256)
    assert found.steps == ()
    assert "is no plan" in found.reason


def test_a_missing_file_says_what_would_make_it(tmp_path: Path) -> None:
    found = tuning_record.read(tmp_path / tuning_record.FILE, "cpu", SHA256)
    assert found.steps == ()
    assert "engine.tune" in found.reason


def test_steps_are_told_to_people() -> None:
    assert tuning_record.describe_steps(STEPS) == (
        "from batch 1 1 thread, from batch 2 as the library does, from batch 256 chunks of 128"
    )
    assert tuning_record.describe_steps((Step(64, chunk=32, streams=3),)) == "from batch 64 chunks of 32 and 3 streams"
    assert tuning_record.describe_steps(()) == "the library's own way is best"


def test_the_engine_stage_makes_plans_where_a_cpu_has_the_arithmetic(main_job: Path) -> None:
    folder = main_job / "artifacts/engine"
    digest = digests.of_file(folder / "fp32" / "model.onnx")
    found = tuning_record.read(folder / "fp32" / tuning_record.FILE, "cpu", digest)
    assert found.steps or found.reason == "nothing was faster than the library's own way"
    measured = json.loads((folder / "fp32" / tuning_record.FILE).read_text())["variants"]["cpu"]["measured"]
    assert measured[0]["batch"] == 1
    assert not (folder / "tf32" / tuning_record.FILE).exists()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "fp32/plan.json" in manifest["outputs"]
    # On another processor the plan must be made anew.
    assert manifest["fingerprint"]["hardware"] | {"gpus": []} == {
        "cpu": environment.cpu_name(),
        "cores": environment.cpu_count(),
        "gpus": [],
    }
