"""Scores and metrics against scikit-learn's and plain NumPy's."""

import numpy as np
import pytest
from made_outputs import CLASSES, kinds, softmax, yardstick
from sklearn.metrics import accuracy_score, jaccard_score, mean_absolute_error
from sklearn.metrics.pairwise import cosine_similarity

from pipeline.tensors import Array

KINDS = kinds()


def value(name: str, task: str = "auto") -> float:
    kind = KINDS[name]
    return yardstick(kind.outputs, kind.targets, task).value({"out": kind.outputs})


def flat(rows: Array) -> Array:
    return rows.reshape(len(rows), -1)


@pytest.mark.parametrize("name", ["softmax", "logits", "column of labels", "fully convolutional"])
def test_the_best_class_is_right_as_scikit_learn_says(name: str) -> None:
    outputs, targets = flat(KINDS[name].outputs), KINDS[name].targets
    assert value(name) == accuracy_score(flat(targets)[:, 0], outputs.argmax(axis=1))


@pytest.mark.parametrize("name", ["one hot", "one hot, logits"])
def test_targets_with_a_1_for_the_class_are_its_number(name: str) -> None:
    assert value(name) == accuracy_score(KINDS[name].targets.argmax(axis=1), KINDS[name].outputs.argmax(axis=1))


@pytest.mark.parametrize(("name", "threshold"), [("several labels", 0.5), ("several labels, logits", 0)])
def test_several_labels_are_right_where_all_are(name: str, threshold: float) -> None:
    outputs, targets = KINDS[name].outputs, KINDS[name].targets
    assert value(name) == accuracy_score(targets, outputs > threshold)


@pytest.mark.parametrize(("name", "threshold"), [("yes or no", 0.5), ("yes or no, logit", 0)])
def test_one_score_is_yes_beyond_its_threshold(name: str, threshold: float) -> None:
    assert value(name) == accuracy_score(KINDS[name].targets, KINDS[name].outputs[:, 0] > threshold)


def test_an_error_is_the_mean_absolute_one() -> None:
    assert value("number") == pytest.approx(mean_absolute_error(KINDS["number"].targets, KINDS["number"].outputs))
    assert value("numbers") == pytest.approx(1)


@pytest.mark.parametrize(("name", "found"), [("pixels", None), ("mask", None), ("two classes", 0.5)])
def test_mean_iou_is_scikit_learns_macro_jaccard_over_all_pixels(name: str, found: float | None) -> None:
    outputs, targets = KINDS[name].outputs, KINDS[name].targets
    answers = outputs if name == "mask" else outputs.argmax(-1) if found is None else outputs[..., 0] > found
    assert value(name) == pytest.approx(jaccard_score(targets.ravel(), answers.ravel(), average="macro"))


def test_pixels_that_are_no_class_do_not_count_and_neither_do_classes_that_are_nowhere() -> None:
    labels = np.array([[[0, 1], [255, 1]], [[0, 0], [1, 255]]], np.uint8)
    scores = np.zeros((2, 2, 2, CLASSES), np.float32)
    scores[..., 0] = 1
    scores[0, 0, 1] = [0, 2, 0, 0]
    scores[0, 1, 0] = [0, 0, 2, 0]  # where the target is no class
    one = yardstick(softmax(scores), labels, "segmentation")
    # class 0: found 5, labelled 3, both 3: 3/5; class 1: found 1, labelled 3, both 1: 1/3
    assert one.value({"out": scores}) == pytest.approx((3 / 5 + 1 / 3) / 2)


def test_similarity_is_the_mean_cosine() -> None:
    reference, candidate = KINDS["embedding"].outputs, KINDS["embedding"].outputs[::-1]
    expected = np.diag(cosine_similarity(candidate, reference)).mean()
    assert yardstick(reference, None).value({"out": candidate}) == pytest.approx(expected)
    labelled = yardstick(candidate, reference, "similarity")
    assert labelled.labels
    assert labelled.value({"out": candidate}) == pytest.approx(expected)
    by_class = yardstick(reference, np.arange(len(reference)) % 3, "similarity")
    assert not by_class.labels, "classes are no embeddings to be near to"


def test_without_labels_an_error_is_told_in_spreads_of_the_original() -> None:
    reference = KINDS["number"].outputs
    one = yardstick(reference, None)
    assert one.value({"out": reference + 0.1}) == pytest.approx(0.1, rel=1e-5)
    assert one.task.scale * 0.1 == pytest.approx(100 * 0.1 / reference.std(), rel=1e-5)


def test_an_answer_has_its_probability_whatever_the_output_holds() -> None:
    logits = np.array([[1.0, 3.0, 0.0, -1.0]], np.float32)
    names = ("red", "green", "blue", "grey")
    from_logits = yardstick(logits, np.array([1])).task.reads(logits[0], names)
    from_softmax = yardstick(softmax(logits), np.array([1])).task.reads(softmax(logits)[0], names)
    assert from_logits.text == from_softmax.text == "green"
    assert from_logits.score == pytest.approx(from_softmax.score) == pytest.approx(float(softmax(logits)[0, 1]))
    tags = yardstick(logits, np.array([[1, 1, 0, 0]])).task.reads(logits[0], names)
    assert tags.text == "red, green"
    assert tags.score == pytest.approx(0.5), "that of the least sure label: blue, at 0"
