"""What was timed is what was judged: told of made-up records, and of a whole run by `doctor --artifacts`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_records
import pytest
from made_run import publish

from pipeline import checkup
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.runner import RunnerOptions, RunnerRecord
from pipeline.errors import ArtifactError, ParityError
from pipeline.runners import audit

FP32, INT8 = made_records.FP32, made_records.INT8


def parity(*judged: RunnerRecord, **changes: object) -> ParityReport:
    rows = [made_records.judged_as(one, made_records.comparison()).model_copy(update=changes) for one in judged]
    return made_records.parity(*rows)


def unjudged(runners: list[RunnerRecord], report: ParityReport) -> list[str]:
    return list(audit.unjudged(runners, report))


def test_what_was_judged_with_the_same_options_is_well() -> None:
    assert unjudged([FP32, INT8, FP32], parity(FP32, INT8)) == []


def test_whatever_the_verdict_was_there_is_one() -> None:
    assert unjudged([FP32], parity(FP32, verdict="fail")) == []


def test_what_was_never_judged_is_named_once() -> None:
    assert unjudged([INT8, FP32, INT8], parity(FP32)) == [f"{INT8.name} was timed, but was never judged"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"options": RunnerOptions(threads=3)}, "options "),
        ({"sha256": "1" * 64}, f"sha256 {'0' * 64} → {'1' * 64}"),
        ({"batches": {"smallest": 1, "largest": 8}}, "batches None → "),
    ],
)
def test_what_was_judged_with_other_options_says_which(change: dict[str, Any], said: str) -> None:
    timed = RunnerRecord.model_validate(FP32.model_dump() | change)
    (wrong,) = unjudged([timed], parity(FP32))
    assert wrong.startswith(f"{FP32.name} was timed, but was judged with other options: {said}")
    assert wrong.count("→") == 1, "what is the same is not said"


def test_what_validation_skipped_has_no_verdict() -> None:
    (wrong,) = unjudged([FP32], parity(FP32, verdict="skipped", reason="no GPU there"))
    assert wrong == f"{FP32.name} was timed, but validation skipped it: no GPU there"


def test_the_original_model_and_the_harness_need_no_verdict() -> None:
    assert unjudged([made_records.CALL, made_records.HARNESS], parity()) == []


# A whole run


@pytest.fixture
def root(copy: Path) -> Path:
    """A copy of the main job's artifacts, to be changed and published anew."""
    return copy / "artifacts"


def edited(root: Path, name: str, edit: Callable[[Any], None]) -> None:
    """Change a file, and publish its stage and the benchmark anew, as if they had written it so."""
    tree = json.loads((root / name).read_text())
    edit(tree)
    (root / name).write_text(json.dumps(tree))
    for stage in ("validate", "benchmark"):
        publish(root, stage)


def problems(root: Path) -> list[str]:
    read = [kind.read(root / kind.PATH) for kind in (BenchmarkResults, ParityReport, Recommendation)]
    return audit.problems(*read)


@pytest.mark.parametrize("below", ["", "artifacts"])
def test_a_run_is_well_and_says_what_was_looked_at(main_job: Path, below: str) -> None:
    files, timings, recommendations = checkup.check(main_job / below)
    assert files.endswith("files of 5 stages are as they were published")
    results = BenchmarkResults.read(main_job / "artifacts" / BenchmarkResults.PATH)
    timed = [cell for cell in results.cells if cell.status == "ok" and cell.runner.role == "exported"]
    assert timings.startswith(f"{len(timed)} timings of {len({cell.runner.name for cell in timed})} exported runners")
    assert recommendations == "4 recommendations: each of a runner that passed", "two batch sizes, two goals"


def test_a_timing_with_other_options_than_were_judged_is_found(root: Path) -> None:
    def edit(tree: Any) -> None:
        for cell in tree["cells"]:
            if cell["runner"]["name"] == "openvino cpu fp32":
                cell["runner"]["options"]["threads"] = 7

    edited(root, BenchmarkResults.PATH, edit)
    assert len(problems(root)) == 1
    with pytest.raises(ParityError, match=r"openvino cpu fp32 was timed, but was judged with other options") as caught:
        checkup.check(root)
    assert "make validate benchmark" in caught.value.hint


def test_a_recommended_runner_that_did_not_pass_is_found(root: Path) -> None:
    recommended = Recommendation.read(root / Recommendation.PATH).choices[0].runner.name

    def edit(tree: Any) -> None:
        for row in tree["runners"]:
            if row["runner"]["name"] == recommended:
                row["verdict"] = "inconclusive"

    edited(root, ParityReport.PATH, edit)
    with pytest.raises(ParityError, match=rf"{recommended} is recommended at batch 1, but its verdict is inconclusive"):
        checkup.check(root)


def test_a_recommended_runner_that_was_not_judged_is_found(root: Path) -> None:
    def edit(tree: Any) -> None:
        tree["choices"][0]["runner"]["name"] = "something else"

    edited(root, Recommendation.PATH, edit)
    assert problems(root) == ["something else is recommended at batch 1, but it was not judged"]


def test_a_changed_file_is_found(root: Path) -> None:
    path = root / "benchmark/samples.npz"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match=r"samples\.npz has \d+ bytes"):
        checkup.check(root)


def test_a_run_without_a_stage_is_incomplete(root: Path) -> None:
    shutil.rmtree(root / "benchmark")
    with pytest.raises(ArtifactError, match="benchmark has no artifact yet"):
        checkup.check(root)


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has no artifacts of a run") as caught:
        checkup.check(tmp_path)
    assert "artifacts/" in caught.value.hint
