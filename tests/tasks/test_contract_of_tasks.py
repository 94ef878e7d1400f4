"""What every task of the registry keeps to, on outputs of every kind it takes."""

import numpy as np
import pytest
from made_outputs import CLASSES, SAMPLES, Kind, kinds, yardstick

from pipeline import tasks
from pipeline.errors import ConfigError, DataError
from pipeline.judging.comparing import compare
from pipeline.tasks import Seen
from pipeline.tensors import Tolerance

KINDS = kinds()
STRICT = Tolerance(rtol=0, atol=0)


def seen(kind: Kind) -> Seen:
    targets = kind.targets
    largest = int(targets.max()) if targets is not None and targets.dtype.kind in "iu" else None
    return Seen("out", kind.outputs, targets, largest)


@pytest.mark.parametrize("name", KINDS)
def test_one_task_takes_an_output_for_its_own_and_says_why(name: str) -> None:
    kind = KINDS[name]
    guesses = {task: fit for task in tasks.NAMES if (fit := tasks.get(task).guess(seen(kind)))}
    assert list(guesses) == [kind.task]
    assert guesses[kind.task].form == kind.form
    assert guesses[kind.task].why


def test_there_is_an_output_of_every_task() -> None:
    assert {kind.task for kind in KINDS.values()} == set(tasks.NAMES)


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_those_of_each_sample_and_make_the_metric(name: str) -> None:
    kind = KINDS[name]
    one = yardstick(kind.outputs, kind.targets)
    task, everything = one.task, slice(0, SAMPLES)
    scores = task.scores(kind.outputs, one.expected(everything))
    parts = task.parts(kind.outputs, one.expected(everything))
    assert scores.shape == (SAMPLES,)
    assert parts.shape[0] == SAMPLES
    assert scores.dtype == parts.dtype == np.float64
    assert one.value({"out": kind.outputs}) == pytest.approx(float(task.aggregate(parts.mean(axis=0))))
    alone = [task.scores(kind.outputs[i : i + 1], one.expected(slice(i, i + 1)))[0] for i in range(5)]
    np.testing.assert_allclose(alone, scores[:5])


@pytest.mark.parametrize("name", KINDS)
def test_the_original_itself_loses_nothing_and_what_is_broken_loses(name: str) -> None:
    kind = KINDS[name]
    one, original = yardstick(kind.outputs, kind.targets), {"out": kind.outputs}
    same = compare([one], original, original, STRICT)
    assert (same.verdict, same.outputs[0].loss) == ("pass", 0)
    assert same.outputs[0].agreement in (None, pytest.approx(1))
    if not one.labels:
        assert "agreement with the original, no labels" in same.outputs[0].measured
    broken = kind.outputs[::-1].copy()
    found = compare([one], original, {"out": broken}, STRICT).outputs[0]
    assert found.max_abs is not None
    assert found.max_abs > 0
    if not one.labels:  # where there are, made outputs are as good as others
        assert found.loss is not None
        assert found.loss > one.budget
        assert found.verdict == "fail"
        assert found.reason.startswith("agreement with the original, no labels: ")


@pytest.mark.parametrize("name", KINDS)
def test_answers_and_targets_read_as_a_person_reads_them(name: str) -> None:
    kind = KINDS[name]
    one = yardstick(kind.outputs, kind.targets)
    names = ["red", "green", "blue", "grey"]
    target = one.expected(slice(0, 1))[0]
    text, score = one.task.reads(kind.outputs[0], names, target)
    assert text
    assert score is None or np.isfinite(score)
    assert one.task.target_reads(target, names)
    if kind.form in ("probabilities", "logits"):
        assert text in names
        assert score is not None
        assert 1 / CLASSES <= score <= 1


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.targets is not None])
def test_strata_group_every_sample_or_there_are_none(name: str) -> None:
    kind = KINDS[name]
    assert kind.targets is not None
    groups = yardstick(kind.outputs, kind.targets).task.strata(kind.targets)
    assert groups is not None
    assert groups.shape == (SAMPLES,)
    assert len(np.unique(groups)) > 1


def test_a_task_that_does_not_go_with_an_output_is_refused_with_both_shapes() -> None:
    strange = Seen("boxes", np.zeros((6, 10, 4), np.float32), np.zeros((6, 3, 4), np.float32))
    assert not any(tasks.get(name).guess(strange) for name in tasks.NAMES)
    for name in ("classification", "regression", "segmentation"):
        with pytest.raises(DataError, match=r"boxes float32\[\?, 10, 4\] and target float32\[\?, 3, 4\]") as caught:
            tasks.get(name).asked(strange)
        assert "package.module:function" in caught.value.hint


def test_unknown_tasks_are_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown task 'ranking'") as caught:
        tasks.get("ranking")
    assert all(name in caught.value.hint for name in tasks.NAMES)
