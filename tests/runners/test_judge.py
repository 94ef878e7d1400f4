"""Judging: with real ONNX Runtime and small graphs, some of which compute something else than they stand for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from made_outputs import dataset
from onnx import TensorProto, helper, numpy_helper

from pipeline.artifacts.disagreements import DifferingRunner
from pipeline.artifacts.parity import Hop, JudgedRunner
from pipeline.artifacts.runner import BatchRange, Role, RunnerOptions, RunnerRecord
from pipeline.data import Split
from pipeline.errors import ArtifactError
from pipeline.judging.choosing import Choosing
from pipeline.runners import Runner, judge
from pipeline.runners.judge import Criteria, Judgement
from pipeline.tensors import Feed, Outputs

CLASSES, SAMPLES = 4, 600
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (SAMPLES, 3, 3, 1), dtype=np.uint8)
WEIGHTS = RANDOM.normal(0, 0.02, (9, CLASSES)).astype(np.float32)
LABELS = (IMAGES.reshape(SAMPLES, 9).astype(np.float32) @ WEIGHTS).argmax(axis=1)
CHAIN = ("keras", "saved_model", "onnx", "typed fp32")


def criteria(**changes: object) -> Criteria:
    known = {
        "samples": Split({"image": IMAGES}, {"probabilities": LABELS}),
        "batch_size": 64,
        "batch_sizes": (1, 7),
        "timed_batch_sizes": (16,),
        "choosing": Choosing(dataset(probabilities=LABELS), budget=changes.pop("budget", "auto")),
    }
    return Criteria(**known | changes)


def saved(path: Path, weights: np.ndarray = WEIGHTS, *, mixes: bool = False, batch: int | str = "batch") -> Path:
    """Write a classifier in one matrix product; one that `mixes` subtracts the mean over the batch."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "samples"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred" if mixes else "flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        [node for node in nodes if mixes or node.op_type not in ("ReduceMean", "Sub")],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 3, 3, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([0]), "samples")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def runner(path: Path, name: str = "onnxruntime cpu fp32", **changes: object) -> Runner:
    """Return a runner of a graph by ONNX Runtime on the CPU, whatever its name."""
    role: Role = "exact" if name in CHAIN else "exported"
    record = RunnerRecord(
        name=name,
        role=role,
        backend="onnxruntime",
        variant="cpu",
        precision="fp32",
        file="engine/fp32/model.onnx" if " " in name else f"export/{name}",
        sha256=None,
        options=RunnerOptions(exact=role == "exact"),
    )
    unavailable = str(changes.pop("unavailable", ""))
    return Runner(record.model_copy(update=changes), path, "cpu", "pipeline.backends.onnxruntime", "", unavailable)


def chain(folder: Path, **paths: Path) -> list[Runner]:
    """Return the steps before what is served, all of the right graph but those named."""
    right = saved(folder / "right.onnx")
    return [runner(paths.get(name.partition(" ")[0], right), name) for name in CHAIN]


def judged(*runners: Runner, **changes: object) -> Judgement:
    return judge.judge(runners, criteria(**changes))


def verdict(found: Judgement, name: str = "onnxruntime cpu fp32") -> JudgedRunner:
    (row,) = [row for row in found.runners if row.runner.name == name]
    return row


def hop(found: Judgement, candidate: str = "onnxruntime cpu fp32") -> Hop:
    (row,) = [row for row in found.hops if row.candidate == candidate]
    return row


def altered(lost: int) -> np.ndarray:
    """Return weights by which about `lost` samples are taken for another class."""
    for scale in np.linspace(0, 0.05, 2000):
        weights = WEIGHTS + scale * np.eye(9, CLASSES, dtype=np.float32)
        wrong = int(((IMAGES.reshape(SAMPLES, 9).astype(np.float32) @ weights).argmax(axis=1) != LABELS).sum())
        if wrong >= lost:
            return weights.astype(np.float32)
    raise AssertionError("no such weights")


def test_every_runner_is_held_against_keras_and_the_step_before(tmp_path: Path) -> None:
    found = judged(*chain(tmp_path), runner(saved(tmp_path / "served.onnx")))
    assert [row.runner.name for row in found.runners] == [*CHAIN, "onnxruntime cpu fp32"]
    assert [(row.reference, row.candidate) for row in found.hops] == [
        ("keras", "saved_model"),
        ("saved_model", "onnx"),
        ("onnx", "typed fp32"),
        ("typed fp32", "onnxruntime cpu fp32"),
    ]
    assert {row.verdict for row in (*found.runners, *found.hops)} == {"pass"} == {found.verdict}
    keras = verdict(found, "keras")
    assert keras.total is None
    assert "the original model" in keras.reason
    served = verdict(found)
    assert served.total is not None
    assert (served.device, served.total.samples, served.total.outputs[0].candidate) == ("cpu", SAMPLES, 1.0)


def test_a_library_that_dies_of_a_model_from_elsewhere_is_left_out_and_the_others_are_judged(tmp_path: Path) -> None:
    path = saved(tmp_path / "served.onnx")
    deadly = replace(runner(path, "openvino cpu fp32"), module="made_deadly")
    found = judged(*chain(tmp_path), deadly, runner(path), trial_s=60.0)
    row = verdict(found, "openvino cpu fp32")
    assert row.verdict == "skipped"
    assert row.reason == "openvino cpu fp32 ended the process in which it was tried, by SIGSEGV"
    assert verdict(found).verdict == "pass"


def test_a_runner_whose_arithmetic_is_wrong_fails(tmp_path: Path) -> None:
    wrong = saved(tmp_path / "wrong.onnx", altered(60))
    found = judged(*chain(tmp_path), runner(wrong))
    row, step = verdict(found), hop(found)
    assert (row.verdict, step.verdict, found.verdict) == ("fail", "fail", "fail")
    assert row.total is not None
    assert row.total.outputs[0].loss == pytest.approx(10, abs=1)
    assert "accuracy drop" in row.reason
    assert all(verdict(found, name).verdict == "pass" for name in CHAIN)


def test_what_is_lost_on_the_way_has_a_place(tmp_path: Path) -> None:
    """Everything after the wrong step differs from Keras; only that step differs from the one before."""
    wrong = saved(tmp_path / "wrong.onnx", altered(60))
    found = judged(*chain(tmp_path, onnx=wrong, typed=wrong), runner(wrong))
    assert [row.verdict for row in found.hops] == ["pass", "fail", "pass", "pass"]
    assert [row.verdict for row in found.runners] == ["pass", "pass", "fail", "fail", "fail"]


def test_what_is_not_proven_is_inconclusive(tmp_path: Path) -> None:
    found = judged(*chain(tmp_path), runner(saved(tmp_path / "nearly.onnx", altered(3))))
    assert (verdict(found).verdict, found.verdict) == ("inconclusive", "inconclusive")


def test_a_wider_budget_lets_it_pass(tmp_path: Path) -> None:
    wrong = runner(saved(tmp_path / "wrong.onnx", altered(60)))
    assert verdict(judged(*chain(tmp_path), wrong, budget=20.0)).verdict == "pass"


def test_a_result_that_depends_on_the_batch_fails_whatever_the_accuracy(tmp_path: Path) -> None:
    mixes = saved(tmp_path / "mixes.onnx", mixes=True)
    found = judged(*chain(tmp_path), runner(mixes), budget=100.0)
    row = verdict(found)
    assert row.total is not None
    assert row.total.verdict == "pass", "by its accuracy alone it would do"
    assert (row.verdict, found.verdict) == ("fail", "fail")
    assert row.reason.startswith("a sample's result depends on its batch: results differ by more than")
    assert row.batch_invariance is not None
    assert row.batch_invariance.max_abs is not None
    assert row.batch_invariance.max_abs > 0.01
    assert hop(found).verdict == "pass", "a hop is about the outputs alone"


def test_exported_runners_are_fed_the_batches_that_are_timed_within_what_they_take(tmp_path: Path) -> None:
    free = runner(saved(tmp_path / "free.onnx"))
    profile = runner(free.path, "onnxruntime cpu profile", batches=BatchRange(smallest=4, largest=16))
    narrow = runner(free.path, "onnxruntime cpu narrow", batches=BatchRange(smallest=20, largest=30))
    found = judged(*chain(tmp_path), free, profile, narrow)
    sizes = {row.runner.name: row.batch_invariance and row.batch_invariance.batch_sizes for row in found.runners}
    assert sizes == dict.fromkeys(CHAIN, (1, 7)) | {
        free.record.name: (1, 7, 16),
        profile.record.name: (7, 16),
        narrow.record.name: (20,),
    }
    assert found.verdict == "pass"


def test_a_runner_that_cannot_run_is_skipped_with_its_reason_and_fails_nothing(tmp_path: Path) -> None:
    found = judged(*chain(tmp_path), runner(tmp_path / "nothing", unavailable="no GPU here"))
    row, step = verdict(found), hop(found)
    assert (row.verdict, row.reason, row.device, row.total, row.batch_invariance) == (
        "skipped",
        "no GPU here",
        None,
        None,
        None,
    )
    assert (step.verdict, step.reason, step.comparison) == ("skipped", "no GPU here", None)
    assert found.verdict == "pass"


def test_what_comes_after_a_step_that_did_not_run_is_judged_all_the_same(tmp_path: Path) -> None:
    *before, typed = chain(tmp_path)
    absent = runner(typed.path, "typed fp32", unavailable="no typed graph")
    found = judged(*before, absent, runner(saved(tmp_path / "wrong.onnx", altered(60))))
    assert (hop(found).verdict, hop(found).reason) == ("skipped", "typed fp32 did not run")
    assert verdict(found).verdict == "fail", "against Keras"


def test_without_keras_a_runner_is_judged_by_its_batches_and_says_so(tmp_path: Path) -> None:
    good, mixes = saved(tmp_path / "good.onnx"), saved(tmp_path / "mixes.onnx", mixes=True)
    found = judged(
        runner(good, "keras", unavailable="no TensorFlow"), runner(good), runner(mixes, "onnxruntime cpu mixed")
    )
    assert (verdict(found).verdict, verdict(found).reason, verdict(found).total) == ("pass", "keras did not run", None)
    assert verdict(found, "onnxruntime cpu mixed").verdict == "fail"
    assert found.differing == ()


def test_a_graph_of_a_fixed_batch_is_judged_in_batches_of_that_size(tmp_path: Path) -> None:
    found = judged(*chain(tmp_path), runner(saved(tmp_path / "fixed.onnx", batch=5)))
    row = verdict(found)
    assert row.verdict == "pass"
    assert row.batch_invariance is not None
    assert row.batch_invariance.batch_sizes == (5,)


def test_a_result_that_moves_with_the_batch_and_keeps_every_answer_passes(tmp_path: Path) -> None:
    """As in TF32 on a GPU, whose kernels for other batches add in another order."""

    class Shifted:
        """A session whose scores move by a hundredth of themselves in batches of 7."""

        def __init__(self, session: Any) -> None:
            self._session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run(self, feed: Feed) -> Outputs:
            scale = 1.01 if len(feed["image"]) == 7 else 1.0
            return {name: rows * np.float32(scale) for name, rows in self._session.run(feed).items()}

    with runner(saved(tmp_path / "served.onnx")).open() as session:
        found = judge._batch_invariance(Shifted(session), runner(Path()).record, criteria())
    assert (found.verdict, found.max_abs) == ("pass", pytest.approx(0.01, rel=0.2))
    assert "every answer stays" in found.reason


def test_a_file_that_is_not_as_published_stops_everything(tmp_path: Path) -> None:
    """Not a skip: a changed file is never passed over."""
    good = runner(saved(tmp_path / "good.onnx"), sha256="0" * 64)
    with pytest.raises(ArtifactError, match="changed since it was published"):
        judged(*chain(tmp_path), good)


def test_other_answers_are_collected_the_gravest_first(tmp_path: Path) -> None:
    weights = altered(60)
    found = judged(*chain(tmp_path), runner(saved(tmp_path / "wrong.onnx", weights)))
    by_name: dict[str, DifferingRunner] = {row.runner: row for row in found.differing}
    assert list(by_name) == ["typed fp32", "onnxruntime cpu fp32"], "of what a precision is run by"
    assert (by_name["typed fp32"].count, by_name["typed fp32"].samples) == (0, ())
    row = by_name["onnxruntime cpu fp32"]
    answers = (IMAGES.reshape(SAMPLES, 9).astype(np.float32) @ weights).argmax(axis=1)
    assert row.count == int((answers != LABELS).sum())
    assert row.reference == "keras"
    assert len(row.samples) == judge.DRAWN < row.count
    for sample in row.samples:
        assert sample.reference.text == sample.expected == str(LABELS[sample.index])
        assert sample.candidate.text == str(answers[sample.index]) != sample.expected


def test_without_labels_runners_are_held_to_the_originals_answers(tmp_path: Path) -> None:
    unlabelled = {"samples": Split({"image": IMAGES}), "choosing": Choosing(dataset())}
    found = judged(*chain(tmp_path), runner(saved(tmp_path / "wrong.onnx", altered(60))), **unlabelled)
    (one,) = found.outputs
    assert (one.task, one.labels, one.metric) == ("classification", False, "same answers")
    row = verdict(found)
    assert row.total is not None
    assert row.total.outputs[0].loss == pytest.approx(10, abs=1)
    assert row.reason.startswith("agreement with the original, no labels: same answers drop at least")
    assert all(verdict(found, name).verdict == "pass" for name in CHAIN)
    assert {sample.expected for sample in found.differing[-1].samples} == {None}


def test_an_emulated_step_says_so_in_its_hop(tmp_path: Path) -> None:
    *before, typed = chain(tmp_path)
    emulated = Runner(
        typed.record.model_copy(update={"name": "typed fp16", "precision": "fp16"}), typed.path, "cpu", typed.module
    )
    step = hop(judged(*before, emulated), "typed fp16")
    assert "emulated" not in step.reason
    record = emulated.record.model_copy(update={"emulated": True})
    step = hop(judged(*before, Runner(record, typed.path, "cpu", typed.module)), "typed fp16")
    assert step.reason.endswith("; fp16 emulated on the CPU by rounding in FP32")


@pytest.mark.parametrize(
    ("name", "reference"), [("keras", ""), ("saved_model", "keras"), ("onnx", "saved_model"), ("typed fp32", "onnx")]
)
def test_each_step_has_the_one_before_it(name: str, reference: str) -> None:
    assert judge.before(runner(Path(), name).record, CHAIN[:-1]) == reference
    served = runner(Path(), "openvino cpu int8", precision="int8").record
    assert judge.before(served, CHAIN[:-1]) == "typed int8"
