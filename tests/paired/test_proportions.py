"""The statistics of two paired proportions, against published values and their definitions."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import xlogy

from pipeline.paired import proportions

Z = 1.959963984540054

property_test = settings(deadline=None, database=None, derandomize=True, max_examples=60)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw lost, gained and the number of samples."""
    n = draw(st.integers(1, 100_000))
    lost = draw(st.integers(0, n))
    return lost, draw(st.integers(0, n - lost)), n


def test_the_interval_is_the_published_one() -> None:
    # Airway hyper-responsiveness before and after stem cell transplantation, 21 children, 1 and 7 discordant: Tango's
    # interval in M. W. Fagerland, S. Lydersen, P. Laake, Statistics in Medicine 33 (2014) 2850-2875.
    assert proportions.drop_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("n", [1, 21, 360, 10_000])
def test_without_discordant_pairs_the_interval_is_not_empty(n: int) -> None:
    width = Z**2 / (n + Z**2)
    assert proportions.drop_interval(0, 0, n) == pytest.approx((-width, width), rel=1e-9)


def score_statistic(lost: int, gained: int, n: int, delta: float) -> float:
    """Return Tango's statistic from its definition, the restricted likelihood maximised numerically.

    Discordant cells have the probabilities p + delta (lost) and p (gained); the other samples share the rest.
    """

    def negative_log_likelihood(p: float) -> float:
        rest = max(1 - 2 * p - delta, 0.0)
        return -float(xlogy(lost, p + delta) + xlogy(gained, p) + xlogy(n - lost - gained, rest))

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    p = minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (lost - gained - n * delta) / math.sqrt(n * (2 * p + delta - delta**2))


@pytest.mark.parametrize(
    ("lost", "gained", "n"), [(1, 7, 21), (3, 3, 50), (9, 0, 100), (12, 5, 360), (40, 31, 10_000), (2, 1, 4)]
)
def test_at_its_ends_the_score_statistic_is_the_normal_quantile(lost: int, gained: int, n: int) -> None:
    low, high = proportions.drop_interval(lost, gained, n)
    assert score_statistic(lost, gained, n, low) == pytest.approx(Z, abs=1e-4)
    assert score_statistic(lost, gained, n, high) == pytest.approx(-Z, abs=1e-4)


@property_test
@given(counts())
def test_the_interval_contains_the_estimate_and_is_a_difference_of_proportions(found: tuple[int, int, int]) -> None:
    lost, gained, n = found
    low, high = proportions.drop_interval(lost, gained, n)
    assert -1 <= low <= (lost - gained) / n <= high <= 1
    assert low < high


@property_test
@given(counts())
def test_exchanging_reference_and_candidate_changes_the_sign(found: tuple[int, int, int]) -> None:
    lost, gained, n = found
    low, high = proportions.drop_interval(lost, gained, n)
    assert proportions.drop_interval(gained, lost, n) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (10, 3, 2 * (286 + 78 + 13 + 1) / 2**13),  # 0.0923: binomial coefficients 13 over 10 to 13
        (3, 10, 2 * (286 + 78 + 13 + 1) / 2**13),
        (5, 0, 2 / 2**5),
        (1, 0, 1.0),
        (4, 4, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemars_exact_p_is_the_binomial_sum(lost: int, gained: int, p: float) -> None:
    assert proportions.mcnemar_p(lost, gained) == pytest.approx(p, rel=1e-12)
