"""Which runner answers, why, and what never does unless it is asked for by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import JUDGED
from made_run import publish

from pipeline import environment
from pipeline.artifacts.parity import ParityReport, Verdict
from pipeline.artifacts.recommendation import Goal, Recommendation
from pipeline.artifacts.selection import SelectedOn, Selection
from pipeline.artifacts.store import Store
from pipeline.errors import BackendUnavailable, ConfigError
from pipeline.runners import serving
from pipeline.runners.serving import NOT_VALIDATED, PASSED, Served, Wanted

FP32 = "onnxruntime cpu fp32"


@pytest.fixture
def root(copy: Path) -> Path:
    """A copy of the main job's artifacts, to be changed and published anew."""
    return copy / "artifacts"


def offered(root: Path, wanted: Wanted | None = None) -> list[Served]:
    published = Store(root).published()
    return serving.candidates(published, wanted or Wanted(), modules=(), threads=None)


def names(found: list[Served]) -> list[str]:
    return [one.runner.record.name for one in found]


def edited(root: Path, name: str, edit: Callable[[Any], None]) -> None:
    """Change a file, and publish its stage anew."""
    tree = json.loads((root / name).read_text())
    edit(tree)
    (root / name).write_text(json.dumps(tree))
    publish(root, name.partition("/")[0])


def recommend(root: Path, order: list[str], batch: int = 1, goal: Goal = "latency", chosen: str = "") -> None:
    """Let the recommendation for a batch be of these runners, the first or `chosen`; drop all other choices."""
    every = {row.runner.name: row.runner for row in ParityReport.read(root / ParityReport.PATH).runners}

    def edit(tree: Any) -> None:
        choice = next(one for one in tree["choices"] if (one["batch"], one["goal"]) == (batch, goal))
        ranking = [{"runner": name, "device": "cpu", "value": float(place)} for place, name in enumerate(order, 1)]
        runner = every[chosen or order[0]].model_dump(mode="json")
        tree["choices"] = [choice | {"runner": runner, "ranking": ranking, "reason": "so it was measured"}]

    edited(root, Recommendation.PATH, edit)


def verdicts(root: Path, **found: Verdict) -> None:
    """Let validation have found this of exported runners, named with _ for a space."""

    def edit(tree: Any) -> None:
        for row in tree["runners"]:
            row["verdict"] = found.get(row["runner"]["name"].replace(" ", "_"), row["verdict"])

    edited(root, ParityReport.PATH, edit)


# By the recommendation


@pytest.mark.parametrize(("batch", "goal"), [(1, "latency"), (1, "throughput"), (16, "latency"), (16, "throughput")])
def test_what_the_benchmark_recommends_answers(main_job: Path, batch: int, goal: Goal) -> None:
    root = main_job / "artifacts"
    choice = Recommendation.read(root / Recommendation.PATH).choice(batch, goal)
    assert choice is not None
    found = offered(root, Wanted(batch=batch, goal=goal))
    assert found[0].runner.record == choice.runner
    assert found[0].why == f"recommended for {goal} at batch {batch}: {choice.reason}"
    assert found[0].verdict == PASSED
    assert str(found[0]) == f"{choice.runner.name}: {found[0].why}; passed validation"
    with serving.opened(found) as (served, session):
        assert served is found[0]
        assert session.device == choice.device
        images: Any = np.zeros((batch, 28, 28, 1), np.uint8)
        assert session.run({session.inputs[0].name: images})["probabilities"].shape == (batch, 10)


def test_the_others_come_in_the_order_measured(root: Path) -> None:
    recommend(root, ["openvino cpu fp32", FP32])
    found = offered(root)
    assert names(found)[:2] == ["openvino cpu fp32", FP32]
    assert found[0].why == "recommended for latency at batch 1: so it was measured"
    assert found[1].why == "rank 2 of 2 by latency at batch 1"
    assert all(one.why == "not timed by the benchmark" for one in found[2:] if one.runner.record.role == "exported")


def test_the_simplest_among_equals_answers_though_another_was_measured_faster(root: Path) -> None:
    recommend(root, ["openvino cpu fp32", FP32], chosen=FP32)
    found = offered(root)
    assert names(found)[:2] == [FP32, "openvino cpu fp32"]
    assert found[0].why.startswith("recommended")
    assert found[1].why == "rank 1 of 2 by latency at batch 1"


def test_the_choice_is_that_of_the_batch_and_the_goal_asked_for(root: Path) -> None:
    recommend(root, ["openvino cpu fp32"], batch=16, goal="throughput")
    assert names(offered(root, Wanted(batch=100, goal="throughput")))[0] == "openvino cpu fp32"
    by_latency = offered(root, Wanted(batch=100))
    assert by_latency[0].why == "not timed by the benchmark", "a choice for throughput is none for latency"


def test_a_recommendation_of_another_runner_than_is_here_now_is_not_said_to_be_one(root: Path) -> None:
    """The same name with other options: tuned anew, or with another number of threads."""
    recommend(root, ["openvino cpu fp32", FP32])
    other = serving.candidates(Store(root).published(), Wanted(), modules=(), threads=1)
    (openvino,) = [one for one in other if one.runner.record.name == "openvino cpu fp32"]
    assert openvino.why == "rank 1 of 2 by latency at batch 1"
    assert openvino.verdict == NOT_VALIDATED


# Without one


def another_machine(tree: Any) -> None:
    tree["machine"]["cpu"] = "Z80"


def test_on_another_machine_gpus_come_before_cpus(root: Path) -> None:
    recommend(root, ["openvino cpu fp32", FP32])
    edited(root, Recommendation.PATH, another_machine)
    found = offered(root)
    devices = [one.runner.device for one in found if one.runner.record.precision == "fp32"]
    assert devices == sorted(devices, reverse=True), "cuda, then cpu"
    assert "cuda" in devices
    assert found[0].why.startswith("the benchmark was run on another machine (Z80, ")
    assert found[0].why.endswith("), so a GPU is preferred")


def test_without_a_benchmark_gpus_come_before_cpus(root: Path) -> None:
    shutil.rmtree(root / "benchmark")
    found = offered(root)
    assert {one.why for one in found if one.runner.record.role == "exported"} == {
        "no benchmark yet, so a GPU is preferred"
    }
    assert found[0].runner.device == "cuda"
    assert found[0].runner.record.precision == "fp32", "where none was chosen"
    if not environment.gpus():
        with serving.opened(found) as (served, _):
            assert served.runner.record.name == FP32, "the first of what this machine offers"


def test_without_a_benchmark_the_chosen_precision_is_preferred(root: Path) -> None:
    shutil.rmtree(root / "benchmark")
    Selection(
        chosen="fp16",
        basis="type",
        pareto=("fp16",),
        candidates=(),
        dataset=SelectedOn(name="digits", split="validation", samples=180),
        outputs=(JUDGED,),
    ).write(root / Selection.PATH)
    publish(root, "engine")
    first = offered(root)[0].runner
    assert (first.record.precision, first.device) == ("fp16", "cuda")


def test_before_validation_it_is_said_that_nothing_was_validated(root: Path) -> None:
    for stage in ("validate", "benchmark"):
        shutil.rmtree(root / stage)
    assert {one.verdict for one in offered(root)} == {NOT_VALIDATED}


# What failed


@pytest.mark.parametrize(
    ("verdict", "said"), [("fail", "FAILED validation"), ("inconclusive", "validation is inconclusive")]
)
def test_what_did_not_pass_answers_only_where_it_is_asked_for_by_name(root: Path, verdict: Verdict, said: str) -> None:
    recommend(root, [FP32, "openvino cpu fp32"])
    verdicts(root, onnxruntime_cpu_fp32=verdict)
    assert FP32 not in names(offered(root))
    assert names(offered(root))[0] == "openvino cpu fp32"
    assert {one.verdict for one in offered(root)} <= {PASSED, NOT_VALIDATED}
    for wanted in (Wanted(backend="onnxruntime"), Wanted(precision="fp32"), Wanted("onnxruntime", "fp32")):
        (named,) = [one for one in offered(root, wanted) if one.runner.record.name == FP32]
        assert named.verdict == said
        assert said in str(named)


def test_where_all_failed_nothing_answers_unless_it_is_named(root: Path) -> None:
    every = [row.runner.name for row in ParityReport.read(root / ParityReport.PATH).runners]
    verdicts(root, **{name.replace(" ", "_"): "fail" for name in every})
    assert offered(root) == []
    with pytest.raises(BackendUnavailable, match="no runner that passed validation") as caught, serving.opened([]):
        pass
    assert "make" in caught.value.hint
    assert {one.verdict for one in offered(root, Wanted(precision="fp32"))} == {"FAILED validation"}


# By name


def test_a_backend_and_a_precision_by_name(main_job: Path) -> None:
    root = main_job / "artifacts"
    assert {one.runner.record.backend for one in offered(root, Wanted("openvino"))} == {"openvino"}
    fp16 = offered(root, Wanted(precision="fp16"))
    assert {one.runner.record.precision for one in fp16} == {"fp16"}
    assert fp16[-1].runner.record.name == "typed fp16"
    assert fp16[-1].why == "exact and unoptimized: no faster runner is available here"
    assert [one.runner.record.role for one in fp16].count("exact") == 1
    without = offered(root, Wanted(precision="fp16", exact=False))
    assert [one.runner.record.role for one in without] == ["exported"] * len(without)
    both = names(offered(root, Wanted("openvino", "fp32")))
    assert both == ["openvino cpu fp32"]


def test_what_a_cpu_lacks_is_emulated_where_that_may_be(main_job: Path) -> None:
    if environment.gpus():
        pytest.skip("this machine has a GPU")
    root = main_job / "artifacts"
    with serving.opened(offered(root, Wanted(precision="fp16"))) as (served, session):
        assert (served.runner.record.name, served.runner.record.emulated) == ("typed fp16", True)
        assert session.settings["optimization"] == "none"
    timed = offered(root, Wanted(precision="fp16", exact=False))
    with pytest.raises(BackendUnavailable) as caught, serving.opened(timed):
        pass
    last = timed[-1].runner
    assert caught.value.message == last.unavailable, "the last one's reason"


def test_the_original_model_answers_where_it_is_asked_for(main_job: Path) -> None:
    (found,) = offered(main_job / "artifacts", Wanted("tensorflow"))
    assert (found.runner.record.name, found.runner.record.role) == ("tensorflow function", "original")
    assert (found.why, found.verdict) == ("asked for by name", "the original model")
    assert names(offered(main_job / "artifacts", Wanted("tensorflow", "fp32"))) == ["tensorflow function"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("cuda"), "unknown backend 'cuda'"),
        (Wanted("null"), "unknown backend 'null'"),
        (Wanted(precision="fp3"), "unknown precision 'fp3'"),
        (Wanted("tensorflow", "int8"), "backend tensorflow runs fp32, not int8"),
    ],
)
def test_a_name_that_does_not_exist_is_refused_before_anything_is_read(
    wanted: Wanted, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        serving.check(wanted)
    with pytest.raises(ConfigError, match=said) as caught:
        offered(tmp_path / "no artifacts", wanted)
    assert caught.value.hint


def test_the_first_that_is_available_is_opened(main_job: Path) -> None:
    found = offered(main_job / "artifacts", Wanted("onnxruntime", "fp32"))
    (fp32,) = [one for one in found if one.runner.record.name == FP32]
    absent = replace(fp32, runner=replace(fp32.runner, unavailable="not today"))
    with serving.opened([absent, fp32, found[-1]]) as (served, session):
        assert served is fp32
        assert session.settings["optimization"] == "all"
    with pytest.raises(BackendUnavailable, match="not today"), serving.opened([absent]):
        pass
