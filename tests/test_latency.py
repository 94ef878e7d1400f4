"""Statistics of timings."""

import numpy as np
import pytest

from pipeline import latency


@pytest.mark.parametrize(("quantile", "needed"), [(0.50, 5), (0.90, 29), (0.95, 59), (0.99, 299)])
def test_a_percentile_is_given_from_the_count_that_supports_it(quantile: float, needed: int) -> None:
    assert latency.samples_needed(quantile) == needed
    # n samples all lie below the quantile with the chance qⁿ: no more than 5 % here, and more with one sample less.
    assert quantile**needed <= 0.05 < quantile ** (needed - 1)
    samples = np.arange(1, needed + 1, dtype=np.int64)
    assert latency.percentile_us(samples, quantile) is not None
    assert latency.percentile_us(samples[1:], quantile) is None


@pytest.mark.parametrize("count", [299, 300, 400, 1000, 1001])
@pytest.mark.parametrize("percent", [50, 90, 95, 99])
def test_a_percentile_is_the_sample_of_the_nearest_rank(random: np.random.Generator, count: int, percent: int) -> None:
    samples = random.permutation(np.arange(1, count + 1) * 1000)  # the sample of rank r is r µs
    assert latency.percentile_us(samples, percent / 100) == -(-percent * count // 100)


def test_an_outlier_is_a_sample_like_any_other() -> None:
    samples = np.array([1000] * 29 + [9_000_000], np.int64)
    found = latency.summarise(samples, batch=1)
    assert (found.p50_us, found.p90_us) == (1.0, 1.0)
    assert found.mean_us == pytest.approx(9029 / 30)


@pytest.mark.parametrize(
    ("count", "supported"), [(1, 0), (4, 0), (5, 1), (28, 1), (29, 2), (58, 2), (59, 3), (298, 3), (299, 4)]
)
def test_a_summary_leaves_out_what_its_count_does_not_support(count: int, supported: int) -> None:
    found = latency.summarise(np.full(count, 2000, np.int64), batch=1)
    percentiles = [found.p50_us, found.p90_us, found.p95_us, found.p99_us]
    assert percentiles == [2.0] * supported + [None] * (4 - supported)
    assert found.samples == count


def test_items_per_second_count_the_items_of_a_batch() -> None:
    found = latency.summarise(np.array([1_000_000, 3_000_000], np.int64), batch=64)
    assert found.mean_us == 2000
    assert found.items_per_s == pytest.approx(64 / 0.002)


@pytest.mark.parametrize("samples", [[], [0], [5, -1], [3, 0, 4]])
def test_durations_must_be_there_and_positive(samples: list[int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        latency.summarise(np.array(samples, np.int64), batch=1)


def test_a_speedup_is_the_ratio_of_medians_with_the_range_of_its_rounds() -> None:
    baseline = [np.array([10, 10, 1000]), np.array([20, 20, 20]), np.array([12, 12, 12])]
    candidate = [np.array([5, 5, 5]), np.array([5, 5, 5]), np.array([4, 4, 900])]
    # All samples: the median of 10 10 12 12 12 20 20 20 1000 is 12, that of 4 4 5 5 5 5 5 5 900 is 5.
    assert latency.speedup(baseline, candidate) == {"ratio": 12 / 5, "ratio_min": 2.0, "ratio_max": 4.0}


def test_a_slower_candidate_has_a_speedup_below_one() -> None:
    assert latency.speedup([np.array([10])], [np.array([40])])["ratio"] == 0.25


def test_a_speedup_needs_the_same_rounds_of_both() -> None:
    with pytest.raises(ValueError, match="shorter"):
        latency.speedup([np.array([1]), np.array([1])], [np.array([1])])
