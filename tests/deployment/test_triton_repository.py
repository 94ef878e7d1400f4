"""The repositories of a bundle: their files, versions side by side, and the plan that is built elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from commands import MAIN_JOB, run_here
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.artifacts.bundle import BundleRecord, PlanRecord
from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.store import Published, Store
from pipeline.config.deploying import Deploy
from pipeline.deployment import bundle as bundles
from pipeline.deployment import contents, description, triton, verify
from pipeline.deployment.triton import check, plan, schema
from pipeline.graphs import files
from pipeline.stages import deploy

NAME = "article_cnn"


@pytest.fixture(scope="module")
def record(bundle: Path) -> BundleRecord:
    return BundleRecord.read(bundle / bundles.RECORD)


def _engine(main_job: Path, **update: object) -> EngineRecord:
    return EngineRecord.read(main_job / "artifacts/engine/fp32/engine.json").model_copy(update=update)


def _written(
    main_job: Path, record: BundleRecord, folder: Path, before: Path | None, **options: int
) -> tuple[str, ...]:
    """Write the repositories of a record into a new bundle folder, beside those of an older bundle."""
    published = Store(main_job / "artifacts").published()
    folder.mkdir()
    contents.copy(published, record, folder)
    description.write(record, folder)
    old = bundles.opened(before) if before else None
    notes = triton.write(record, published, old, Deploy(**options), folder)
    bundles.close(folder, record)
    return notes


def _versions(folder: Path, backend: str) -> list[str]:
    return sorted(path.name for path in (folder / "triton" / backend / NAME).iterdir() if path.is_dir())


def test_both_repositories_hold_the_judged_model_under_one_name(bundle: Path, record: BundleRecord) -> None:
    for backend in ("onnxruntime", "tensorrt"):
        model = bundle / "triton" / backend / record.name
        assert (model / "1/model.onnx").read_bytes() == (bundle / record.runners[0].runner.file).read_bytes()
        assert schema.parsed(model / schema.FILE).backend == backend
        assert (model / "probabilities.txt").read_text().split() == list(record.outputs[0].classes)
        assert check.problems(model.parent) == []


def test_models_are_links_to_the_bundles_own(bundle: Path) -> None:
    own = (bundle / "engine/fp32/model.onnx").stat()
    for backend in ("onnxruntime", "tensorrt"):
        assert (bundle / "triton" / backend / NAME / "1/model.onnx").stat().st_ino == own.st_ino


def test_threads_are_those_that_were_judged(bundle: Path, record: BundleRecord) -> None:
    config = schema.parsed(bundle / "triton/onnxruntime" / NAME / schema.FILE)
    judged = record.runners[0].runner.options.threads
    assert config.parameters["intra_op_thread_count"].string_value == str(judged)


def test_where_links_cannot_be_files_are_copies(
    main_job: Path, record: BundleRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    _written(main_job, record, tmp_path / "new", None)
    copy = tmp_path / "new/triton/onnxruntime" / NAME / "1/model.onnx"
    assert copy.stat().st_nlink == 1
    assert copy.read_bytes() == (tmp_path / "new/engine/fp32/model.onnx").read_bytes()


def test_older_versions_stay_beside_the_new_one_as_many_as_asked(
    main_job: Path, bundle: Path, record: BundleRecord, tmp_path: Path
) -> None:
    second, third = (record.model_copy(update={"version": number}) for number in (2, 3))
    assert _written(main_job, second, tmp_path / "second", bundle) == ()
    assert _versions(tmp_path / "second", "onnxruntime") == _versions(tmp_path / "second", "tensorrt") == ["1", "2"]
    _written(main_job, third, tmp_path / "third", tmp_path / "second", keep_versions=2)
    _written(main_job, third, tmp_path / "all", tmp_path / "second", keep_versions=9)
    _written(main_job, third, tmp_path / "one", tmp_path / "second", keep_versions=1)
    assert _versions(tmp_path / "third", "onnxruntime") == ["2", "3"]
    assert _versions(tmp_path / "all", "tensorrt") == ["1", "2", "3"]
    assert _versions(tmp_path / "one", "onnxruntime") == ["3"]
    config = schema.parsed(tmp_path / "all/triton/tensorrt" / NAME / schema.FILE)
    assert list(config.version_policy.specific.versions) == [1, 2, 3]


def test_versions_that_take_or_return_something_else_are_left_out_and_said(
    main_job: Path, bundle: Path, record: BundleRecord, tmp_path: Path
) -> None:
    renamed = record.outputs[0].model_copy(update={"classes": tuple("abcdefghij")})
    other = record.model_copy(update={"version": 2, "outputs": (renamed,)})
    notes = _written(main_job, other, tmp_path / "other", bundle)
    assert _versions(tmp_path / "other", "onnxruntime") == ["2"]
    assert [note.partition(":")[0] for note in notes] == ["onnxruntime", "tensorrt"]
    smaller = record.model_copy(update={"version": 2, "batch_sizes": (1, 8)})
    assert _written(main_job, smaller, tmp_path / "smaller", bundle), "max_batch_size holds for all versions"


def test_plans_that_would_be_built_otherwise_are_left_out(
    main_job: Path, bundle: Path, record: BundleRecord, tmp_path: Path
) -> None:
    before = Path(shutil.copytree(bundle, tmp_path / "before"))
    path = before / "triton/tensorrt.json"
    PlanRecord.read(path).model_copy(update={"allow_tf32": True}).write(path)
    bundles.close(before, BundleRecord.read(before / bundles.RECORD))
    (note,) = _written(main_job, record.model_copy(update={"version": 2}), tmp_path / "new", before)
    assert note.startswith("tensorrt: older versions are left out")
    assert _versions(tmp_path / "new", "onnxruntime") == ["1", "2"]


def test_the_stage_writes_what_verify_checks(bundle: Path) -> None:
    lines = verify.verify(bundle, Deploy())
    assert any(line.startswith("  triton     onnxruntime and tensorrt") for line in lines)


def test_verify_says_where_it_cannot_check(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    assert any("NOT CHECKED" in line and "serve" in line for line in verify.verify(bundle, Deploy()))


def test_a_second_deployment_of_the_same_model_keeps_its_version(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    run_here("deploy", *MAIN_JOB, "--set=deploy.keep_versions=3")
    assert _versions(copy / "artifacts/deploy/bundle", "onnxruntime") == ["1"]


def test_weights_beside_a_model_come_along_in_every_version(
    main_job: Path, record: BundleRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = contents.copy

    def apart(published: Published, record: BundleRecord, folder: Path) -> None:
        copied(published, record, folder)
        files.save(files.load(folder / "engine/fp32/model.onnx"), folder / "engine/fp32/model.onnx")

    monkeypatch.setattr(contents, "copy", apart)
    monkeypatch.setattr(files, "DATA_FROM", 0)
    _written(main_job, record, tmp_path / "first", None)
    _written(main_job, record.model_copy(update={"version": 2}), tmp_path / "second", tmp_path / "first")
    for version in ("1", "2"):
        path = tmp_path / "second/triton/tensorrt" / NAME / version
        assert sorted(one.name for one in path.iterdir()) == ["model.onnx", "model.onnx.data"]
        onnxruntime.InferenceSession(path / "model.onnx")


def test_older_versions_that_nobody_trusted_has_signed_do_not_come_under_a_new_signature(
    bundle: Path, tmp_path: Path
) -> None:
    before = bundles.opened(bundle)
    assert deploy._trusted(before, Deploy()) is not None
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    public = tmp_path / "key.pem"
    public.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    assert deploy._trusted(before, Deploy(trusted_keys=(public,))) is None


# The plan


def test_of_this_library_no_plan_is_shipped_and_what_is_not_known_is_said(bundle: Path) -> None:
    found = PlanRecord.read(bundle / "triton/tensorrt.json")
    assert (found.shipped, found.needs_tensorrt) == (False, None)
    assert "tensorrt-rtx, which Triton does not load" in found.why
    assert not list((bundle / "triton/tensorrt").rglob("*.plan"))
    assert found.container.image.endswith(f":{found.container.release}-py3")
    page = (bundle / "triton/TENSORRT.md").read_text()
    assert "unknown: its documentation does not say" in page
    assert found.container.cuda == "13.4.1"
    assert "13.4.1" in page


def test_an_engine_of_tensorrt_that_passed_is_shipped_with_what_it_needs(
    main_job: Path, record: BundleRecord, tmp_path: Path
) -> None:
    engine = _engine(main_job, flavour="tensorrt", version="11.4.0.9")
    first = record.runners[0]
    runner = first.runner.model_copy(update={"backend": "tensorrt", "file": "engine/fp32/model.engine"})
    passed = record.model_copy(update={"runners": (first.model_copy(update={"runner": runner}), *record.runners)})
    found = plan.record(passed, engine, Deploy())
    assert (found.shipped, found.needs_tensorrt) == (True, "11.4.0.9")
    assert "which one the container carries is not documented" in found.why
    plan.write(found, tmp_path)
    assert "11.4.0.9" in (tmp_path / "TENSORRT.md").read_text()
    assert not plan.record(record, engine, Deploy()).shipped, "it did not pass, or was not judged"
    late = engine.model_copy(update={"profiles": engine.profiles[-1:]})
    assert not plan.record(passed, late, Deploy()).shipped, "Triton sends single requests"
    assert plan.record(passed, late, Deploy()).profiles[0].min["image"][0] == 1


def test_an_inputs_name_with_a_colon_is_quoted_for_trtexec(main_job: Path, record: BundleRecord) -> None:
    (image,) = record.inputs
    renamed = record.model_copy(update={"inputs": (image.model_copy(update={"name": "image:0"}),)})
    wanted = plan.record(renamed, _engine(main_job), Deploy())
    assert "--minShapes='image:0':1x28x28x1" in plan.arguments(wanted)
    assert all("image:0" in profile.max for profile in wanted.profiles)


def test_an_unknown_release_is_unknown(record: BundleRecord, main_job: Path) -> None:
    container = plan.record(record, _engine(main_job), Deploy(triton_release="31.01")).container
    assert (container.tensorrt, container.cuda, container.onnxruntime) == (None, None, None)


STAND_IN = """#!/bin/bash
# Stands in for trtexec, which is not on this machine: it notes its arguments and writes a plan.
if [ "$1" = --help ]; then echo "  --stronglyTyped  Create a strongly typed network."; seq 20000; exit; fi
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v101400] [b48] # trtexec"
for one in "$@"; do
  echo "$one" >> "$NOTED"
  case $one in --saveEngine=*) echo plan > "${one#*=}" ;; esac
done
exit "${FAILS:-0}"
"""


@pytest.fixture
def trtexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for trtexec on PATH; return the file of its arguments."""
    program = tmp_path / "bin/trtexec"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NOTED", str(tmp_path / "arguments"))
    return tmp_path / "arguments"


def _build(bundle: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([bundle / "triton/build_plan.sh", target], capture_output=True, text=True)


def test_the_script_builds_into_a_copy_with_the_profiles_and_notes_the_version(
    bundle: Path, trtexec: Path, tmp_path: Path
) -> None:
    built = _build(bundle, tmp_path / "plans")
    assert built.returncode == 0, built.stderr
    version = tmp_path / "plans" / NAME / "1"
    assert (version / "model.plan").read_text() == "plan\n"
    assert "TensorRT v101400" in (version / "tensorrt-version.txt").read_text()
    arguments = trtexec.read_text().splitlines()
    assert {"--stronglyTyped", "--noTF32", "--profile=0", "--profile=1"} <= {*arguments}
    assert arguments[arguments.index("--profile=1") + 1 :] == [
        "--minShapes=image:2x28x28x1",
        "--optShapes=image:16x28x28x1",
        "--maxShapes=image:16x28x28x1",
    ]
    assert check.problems(tmp_path / "plans") == []
    assert bundles.opened(bundle), "the bundle is as it was signed"


def test_a_build_that_fails_leaves_no_plan(
    bundle: Path, trtexec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "1")
    assert _build(bundle, tmp_path / "plans").returncode == 1
    assert trtexec.exists(), "it was asked"
    assert not list((tmp_path / "plans").rglob("model.plan"))


def test_without_trtexec_the_script_says_where_there_is_one(bundle: Path, tmp_path: Path) -> None:
    built = _build(bundle, tmp_path / "plans")
    assert built.returncode == 1
    assert "run this in a container" in built.stderr
    assert not (tmp_path / "plans").exists()


def test_the_plans_record_is_published_json(bundle: Path) -> None:
    found = json.loads((bundle / "triton/tensorrt.json").read_text())
    assert found["profiles"][0]["max"] == {"image": [1, 28, 28, 1]}
