"""Statistics of timings."""

import numpy as np
import pytest

from pipeline.measuring import statistics


@pytest.mark.parametrize(("quantile", "needed"), [(0.50, 5), (0.90, 29), (0.95, 59), (0.99, 299)])
def test_a_percentile_is_given_from_the_count_that_supports_it(quantile: float, needed: int) -> None:
    assert statistics.samples_needed(quantile) == needed
    # n samples all lie below the quantile with the chance qⁿ: no more than 5 % here, and more with one sample less.
    assert quantile**needed <= 0.05 < quantile ** (needed - 1)
    samples = np.arange(1, needed + 1, dtype=np.int64)
    assert statistics.percentile_us(samples, quantile) is not None
    assert statistics.percentile_us(samples[1:], quantile) is None


@pytest.mark.parametrize("count", [299, 300, 400, 1000, 1001])
@pytest.mark.parametrize("percent", [50, 90, 95, 99])
def test_a_percentile_is_the_sample_of_the_nearest_rank(random: np.random.Generator, count: int, percent: int) -> None:
    samples = random.permutation(np.arange(1, count + 1) * 1000)  # the sample of rank r is r µs
    assert statistics.percentile_us(samples, percent / 100) == -(-percent * count // 100)


def test_an_outlier_is_a_sample_like_any_other() -> None:
    samples = np.array([1000] * 29 + [9_000_000], np.int64)
    found = statistics.summarise([samples, np.full(30, 1000, np.int64)], batch=1)
    assert (found.p50_us, found.p90_us) == (1.0, 1.0)
    assert found.mean_us == pytest.approx(9059 / 60)
    assert found.round_p50_us == (1.0, 1.0)
    assert found.round_mean_us == pytest.approx((9029 / 30, 1.0)), "what throughput is compared by keeps outliers"


@pytest.mark.parametrize(
    ("count", "supported"), [(1, 0), (4, 0), (5, 1), (28, 1), (29, 2), (58, 2), (59, 3), (298, 3), (299, 4)]
)
def test_a_summary_leaves_out_what_its_count_does_not_support(count: int, supported: int) -> None:
    found = statistics.summarise([np.full(count, 2000, np.int64)], batch=1)
    percentiles = [found.p50_us, found.p90_us, found.p95_us, found.p99_us]
    assert percentiles == [2.0] * supported + [None] * (4 - supported)
    assert found.samples == count


def test_items_per_second_count_the_items_of_a_batch() -> None:
    found = statistics.summarise([np.array([1_000_000, 3_000_000], np.int64)], batch=64)
    assert found.mean_us == 2000
    assert found.items_per_s == pytest.approx(64 / 0.002)


@pytest.mark.parametrize("samples", [[], [0], [5, -1], [3, 0, 4]])
def test_durations_must_be_there_and_positive(samples: list[int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        statistics.summarise([np.array(samples, np.int64)], batch=1)


def test_a_slow_round_weighs_no_more_than_any_other() -> None:
    fast, slow = np.full(1000, 2000, np.int64), np.full(10, 9000, np.int64)
    found = statistics.summarise([slow, fast, slow], batch=1)
    assert found.round_p50_us == (9.0, 2.0, 9.0)
    assert found.p50_us == 9.0, "all samples in one heap would say 2"


def test_an_interval_is_over_rounds_and_not_over_single_calls(random: np.random.Generator) -> None:
    drifting = [np.full(10_000, level * 1000, np.int64) for level in (10, 12, 14, 16, 18, 20, 22, 24, 26, 28)]
    low, high = statistics.summarise(drifting, batch=1).p50_ci95_us or (0, 0)
    assert low < 15
    assert high > 23, "10,000 equal calls a round do not make the level of the rounds any surer"
    steady = [np.asarray(random.normal(1e5, 100, 1000), np.int64) for _ in range(10)]
    low, high = statistics.summarise(steady, batch=1).p50_ci95_us or (0, 0)
    assert 99.9 < low < 100 < high < 100.1


def test_the_interval_holds_the_true_median_as_often_as_it_says(random: np.random.Generator) -> None:
    held = 0
    for _ in range(200):
        low, high = statistics.interval(list(random.normal(100, 5, 10))) or (0, 0)
        held += low <= 100 <= high
    assert held >= 180, "95 % of 200 are 190; ten rounds make it somewhat less"


def test_one_round_has_no_interval() -> None:
    found = statistics.summarise([np.full(10, 1000, np.int64)], batch=1)
    assert found.p50_us == 1.0
    assert found.p50_ci95_us is None


def test_a_speedup_is_the_median_of_the_rounds_ratios() -> None:
    found = statistics.speedup([10, 20, 12], [5, 5, 4])
    assert found.ratio == 3.0
    low, high = found.ratio_ci95 or (0, 0)
    assert 2 <= low <= 3 <= high <= 4


def test_what_slows_a_whole_round_down_cancels_in_its_ratio() -> None:
    drift = np.array([1, 5, 2, 3, 1, 4, 2, 2, 3, 1])
    found = statistics.speedup(list(20.0 * drift), list(10.0 * drift))
    assert found == statistics.Ratio(2.0, (2.0, 2.0))


def test_a_slower_candidate_has_a_speedup_below_one() -> None:
    assert statistics.speedup([10], [40]) == statistics.Ratio(0.25, None)


def test_a_speedup_needs_the_same_rounds_of_both() -> None:
    with pytest.raises(ValueError, match="shorter"):
        statistics.speedup([1, 1], [1])


@pytest.mark.parametrize(
    ("ratio", "interval", "floor", "told"),
    [
        (1.2, (1.1, 1.3), 0.05, "faster"),
        (1.2, (1.04, 1.3), 0.05, statistics.NOT_SIGNIFICANT),
        (0.8, (0.7, 0.9), 0.05, "slower"),
        (0.8, (0.7, 0.97), 0.05, statistics.NOT_SIGNIFICANT),
        (1.02, (1.01, 1.03), 0.05, statistics.NOT_SIGNIFICANT),
        (1.02, (1.01, 1.03), 0.0, "faster"),
        (3.0, None, 0.5, "faster"),
    ],
)
def test_a_difference_is_told_only_where_the_whole_interval_is_beyond_the_noise(
    ratio: float, interval: tuple[float, float] | None, floor: float, told: str
) -> None:
    assert statistics.verdict(statistics.Ratio(ratio, interval), floor) == told


def test_the_noise_floor_is_the_far_end_of_the_interval_of_a_cell_against_itself() -> None:
    assert statistics.noise_floor(statistics.Ratio(0.99, (0.96, 1.02))) == pytest.approx(0.04)
    assert statistics.noise_floor(statistics.Ratio(1.03, None)) == pytest.approx(0.03)
