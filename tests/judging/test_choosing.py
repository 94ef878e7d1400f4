"""Which task each output has: guessed, asked for, or a function of the user's own."""

from pathlib import Path

import numpy as np
import pytest
from made_outputs import dataset, kinds, yardstick

from pipeline.errors import ConfigError, DataError
from pipeline.judging.choosing import Choosing, task_of, unlabelled
from pipeline.judging.comparing import compare
from pipeline.judging.own import Own
from pipeline.tensors import Tolerance

KINDS = kinds()
OWN = """
import numpy as np

def near(outputs, targets):
    assert set(outputs) == {"age", "kind"} and set(targets) == {"age"}
    return np.abs(outputs["age"][:, 0] - targets["age"]) < 2

def short(outputs, targets):
    return [1.0]

def broken(outputs, targets):
    raise KeyError("boxes")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an importable module of the user's own."""
    (tmp_path / "own_scores.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_scores"


@pytest.mark.parametrize("name", KINDS)
def test_a_task_is_found_again_from_its_record(name: str) -> None:
    one = yardstick(KINDS[name].outputs, KINDS[name].targets)
    again = task_of(one.record)
    expected = one.expected(slice(None))
    np.testing.assert_array_equal(
        again.parts(KINDS[name].outputs, expected), one.task.parts(KINDS[name].outputs, expected)
    )
    assert one.record.why.startswith("auto: ")


def test_a_task_asked_for_by_name_is_taken_for_all_outputs_or_for_one() -> None:
    original = {"kind": KINDS["softmax"].outputs, "other": KINDS["logits"].outputs}
    asked = Choosing(dataset(), "similarity").yardsticks(original, {})
    assert [one.record.task for one in asked] == ["similarity", "similarity"]
    assert asked[0].why.startswith("asked for: ")
    by_output = Choosing(dataset(), {"other": "similarity"}).yardsticks(original, {})
    assert [one.record.task for one in by_output] == ["classification", "similarity"]


def test_budgets_are_the_tasks_own_or_as_configured() -> None:
    number, label = KINDS["number"], KINDS["softmax"]
    original = {"age": number.outputs, "kind": label.outputs}
    targets = {"age": number.targets, "kind": label.targets}
    choosing = Choosing(dataset(**targets), budget={"age": 0.7})
    age, kind = choosing.yardsticks(original, targets)
    assert (age.budget, age.budget_why) == (0.7, "validate.budget")
    assert (kind.budget, kind.budget_why) == (0.5, "half a percentage point")
    (own,) = Choosing(dataset(age=number.targets)).yardsticks({"age": number.outputs}, {"age": number.targets})
    assert own.budget == pytest.approx(0.02 * np.abs(number.outputs[:, 0] - number.targets).mean())


@pytest.mark.parametrize("key", ["task", "budget"])
def test_an_output_that_the_model_has_not_is_refused(key: str) -> None:
    value = {"task": {"logits": "regression"}, "budget": {"logits": 1.0}}[key]
    with pytest.raises(ConfigError, match=f"validate.{key} names logits") as caught:
        Choosing(dataset(), **{key: value}).yardsticks({"out": KINDS["softmax"].outputs}, {})
    assert "Its outputs are out" in caught.value.hint


def test_what_no_task_fits_is_refused_with_the_remedy() -> None:
    boxes = np.zeros((6, 10, 4), np.float32)
    with pytest.raises(DataError, match="no task goes with output out") as caught:
        yardstick(boxes, np.zeros((6, 3, 4), np.float32))
    assert "package.module:function" in caught.value.hint


def test_a_function_of_the_users_own_judges_all_outputs_together(own: str) -> None:
    number = KINDS["number"]
    original = {"age": number.outputs, "kind": KINDS["softmax"].outputs}
    targets = {"age": number.targets}
    (one,) = Choosing(dataset(**targets), f"{own}:near").yardsticks(original, targets)
    assert isinstance(one.task, Own)
    assert (one.output, one.record.task, one.record.metric) == ("", f"{own}:near", "mean near")
    assert isinstance(task_of(one.record), Own)
    worse = original | {"age": original["age"] + 5}
    found = compare([one], original, worse, Tolerance(0, 0)).outputs[0]
    assert (found.reference, found.candidate, found.loss, found.verdict) == (1, 0, 1, "fail")
    assert found.p is not None, "its scores are 0 and 1: a share of right samples"
    assert found.max_abs == pytest.approx(5, rel=1e-5)


@pytest.mark.parametrize(("name", "words"), [("short", r"array \[1\] for 60 samples"), ("broken", "KeyError: 'boxes'")])
def test_a_function_that_gives_no_scores_is_refused(own: str, name: str, words: str) -> None:
    number = KINDS["number"]
    with pytest.raises(DataError, match=words):
        Choosing(dataset(out=number.targets), f"{own}:{name}").yardsticks(
            {"out": number.outputs}, {"out": number.targets}
        )


def test_a_function_without_labels_is_refused(own: str) -> None:
    with pytest.raises(DataError, match="needs labels"):
        Choosing(dataset(), f"{own}:near").yardsticks({"out": KINDS["number"].outputs}, {})


def test_without_a_validation_an_output_is_read_by_its_looks() -> None:
    found = unlabelled({"kind": KINDS["softmax"].outputs[:1], "age": KINDS["number"].outputs[:1]})
    assert {name: task.NAME for name, task in found.items()} == {"kind": "classification", "age": "regression"}
