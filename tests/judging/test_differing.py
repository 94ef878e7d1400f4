"""Which samples get another answer or a worse one: counted, and the gravest kept."""

import numpy as np
from made_outputs import dataset, kinds, yardstick

from pipeline.artifacts.disagreements import Answer, DifferingSample
from pipeline.judging.choosing import Choosing
from pipeline.judging.differing import Differing, differing

NAMES = ("cat", "dog")


def test_other_answers_are_counted_and_the_gravest_kept() -> None:
    reference = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    candidate = np.array([[0.1, 0.9], [0.45, 0.55], [0.3, 0.7]])
    one = yardstick(reference, np.array([0, 1, 1]))
    original, other = {"out": reference}, {"out": candidate}
    assert differing(one, original, original, NAMES, 5) == Differing(0, ())
    found = differing(one, original, other, NAMES, 5)
    assert found.count == 2
    assert [sample.index for sample in found.samples] == [0, 1], "0.8 of its score is lost, and then 0.15"
    before, after = Answer(text="cat", score=0.9), Answer(text="dog", score=0.9)
    assert found.samples[0] == DifferingSample(index=0, expected="cat", reference=before, candidate=after)
    limited = differing(one, original, other, NAMES, 1)
    assert (limited.count, len(limited.samples)) == (2, 1)


def test_a_score_that_is_no_number_is_the_gravest_and_told_as_none() -> None:
    reference = np.array([[0.7, 0.3], [0.9, 0.1]])
    candidate = np.array([[0.1, np.nan], [0.1, 0.9]])
    found = differing(yardstick(reference, np.array([1, 0])), {"out": reference}, {"out": candidate}, NAMES, 5)
    assert [sample.index for sample in found.samples] == [1, 0] or found.samples[0].index == 0
    (sample,) = [one for one in found.samples if one.index == 0]
    assert sample.candidate == Answer(text="dog", score=None)


def test_errors_that_grew_beyond_the_budget_are_the_changed_samples_of_a_regression() -> None:
    truth = np.linspace(0, 9, 30).astype(np.float32)
    reference = truth[:, None] + np.float32(0.5)
    candidate = reference.copy()
    candidate[[4, 7]] += np.float32([[1], [3]])
    found = differing(yardstick(reference, truth, budget=0.2), {"out": reference}, {"out": candidate}, (), 5)
    assert found.count == 2
    assert [sample.index for sample in found.samples] == [7, 4]
    assert found.samples[0].expected == f"{truth[7]:.4g}"
    assert found.samples[0].candidate.score is not None
    assert np.isclose(found.samples[0].candidate.score, 3.5)


def test_without_labels_nothing_is_said_to_be_expected() -> None:
    known = kinds()["pixels, no labels"]
    worse = known.outputs.copy()
    worse[3] = worse[3, ::-1, ::-1]
    found = differing(yardstick(known.outputs, None), {"out": known.outputs}, {"out": worse}, (), 5)
    assert [(sample.index, sample.expected) for sample in found.samples] == [(3, None)]
    assert "%" in found.samples[0].reference.text, "the shares of the classes"


def test_only_the_output_that_is_judged_is_looked_at() -> None:
    known = kinds()
    original = {"kind": known["softmax"].outputs, "age": known["number"].outputs}
    other = original | {"age": original["age"] + 100}
    kind, age = Choosing(dataset()).yardsticks(original, {})
    assert differing(kind, original, other, (), 5).count == 0
    assert differing(age, original, other, (), 5).count == len(original["age"])
