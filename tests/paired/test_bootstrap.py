"""The bootstrap of paired measurements: against SciPy's, and whether it covers what it should."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap as scipy_bootstrap

from pipeline.paired import bootstrap

Numbers = NDArray[np.float64]


def difference(means: Numbers) -> Numbers:
    return means[..., 1] - means[..., 0]


@pytest.mark.parametrize("skewed", [False, True])
def test_it_is_scipys_bca(random: np.random.Generator, skewed: bool) -> None:
    change = random.exponential(1, 80) if skewed else random.normal(0.5, 1, 80)
    before = random.normal(10, 3, 80)
    found = bootstrap.interval(np.stack([before, before + change], axis=1), difference)
    expected = scipy_bootstrap((change,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert found == pytest.approx(tuple(expected), abs=0.03)


@pytest.mark.parametrize("shape", ["normal", "rare", "skewed"])
def test_it_covers_the_true_loss_about_as_often_as_it_says(shape: str) -> None:
    """With 200 samples; where few samples change at all, an interval cannot know of those that are not there."""
    random = np.random.default_rng(7)
    draw = {
        "normal": lambda: random.normal(0.1, 1, 200),
        "rare": lambda: random.exponential(2, 200) * (random.random(200) < 0.1),
        "skewed": lambda: random.exponential(1, 200),
    }[shape]
    truth = {"normal": 0.1, "rare": 0.2, "skewed": 1.0}[shape]
    covered = 0
    for _ in range(200):
        change = draw()
        low, high = bootstrap.interval(np.stack([np.zeros(200), change], axis=1), difference) or (0, 0)
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.985


def test_ten_thousand_samples_of_many_classes_take_seconds_and_the_same_ones_give_the_same(
    random: np.random.Generator,
) -> None:
    unions = random.integers(50, 100, (10_000, 21)).astype(float)
    parts = np.concatenate([unions * 0.9, unions, unions * 0.88, unions], axis=1)

    def measure(means: Numbers) -> Numbers:
        before, after = means[..., :21] / means[..., 21:42], means[..., 42:63] / means[..., 63:]
        return np.asarray((before - after).mean(axis=-1))

    start = time.process_time()
    found = bootstrap.interval(parts, measure)
    assert time.process_time() - start < 20
    assert found == pytest.approx((0.02, 0.02))
    assert found == bootstrap.interval(parts, measure)


def test_too_few_samples_and_no_numbers_have_no_interval(random: np.random.Generator) -> None:
    few = random.normal(size=(bootstrap.LEAST - 1, 2))
    assert bootstrap.interval(few, difference) is None
    broken = random.normal(size=(50, 2))
    broken[3, 1] = np.nan
    assert bootstrap.interval(broken, difference) is None


def test_where_nothing_changes_the_interval_is_empty() -> None:
    assert bootstrap.interval(np.ones((50, 2)), difference) == (0, 0)


def test_the_samples_said_to_settle_do(random: np.random.Generator) -> None:
    change = random.normal(0.05, 1, 400)
    rows = np.stack([np.zeros(400), change], axis=1)
    ends = bootstrap.interval(rows, difference)
    assert ends is not None
    loss = float(change.mean())
    budget = (loss + ends[1]) / 2
    needed = bootstrap.samples_to_settle(loss, ends, 400, budget)
    assert needed == pytest.approx(1600, abs=1), "half as wide an interval"
    more = np.resize(change, needed)  # the same spread, of so many samples
    _, high = bootstrap.interval(np.stack([np.zeros(needed), more], axis=1), difference) or (0, 0)
    assert high == pytest.approx(budget, abs=0.01)
    assert bootstrap.samples_to_settle(loss, ends, 400, budget=loss) is None
