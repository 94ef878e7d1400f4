"""What the training benchmark says of made-up runs."""

import pytest

from benchmarks.training import table
from benchmarks.training.scaling import NODE, all_reduce_s
from benchmarks.training.table import Run

ARTICLE = [Run(seed, 40.0 + seed, 50.0, 0.98 + seed / 1000, 300_000) for seed in range(3)]


def ours(fit_s: float, accuracy: float) -> list[Run]:
    return [Run(seed, fit_s, fit_s + 6, accuracy, 110_000) for seed in range(4)]


def test_a_mean_has_students_interval() -> None:
    mean, low, high = table.mean_interval([0.980, 0.981, 0.982])
    assert (mean, high - mean) == (pytest.approx(0.981), pytest.approx(0.001 / 3**0.5 * 4.302653, rel=1e-5))
    assert mean - low == pytest.approx(high - mean)
    assert table.mean_interval([0.5]) == (0.5, 0.5, 0.5)


def test_the_table_has_the_share_of_the_limit() -> None:
    page = table.markdown({"ours": ours(5.0, 0.98)}, limit=table.MACS * 220_000)
    assert "| ours | 4 | 5.00 (5.00 to 5.00) | 11.0 | 0.9800 (0.9800 to 0.9800) | 22,000 | 10.0 % |" in page
    assert page.endswith("n/a |") is False
    assert table.markdown({"ours": ours(5.0, 0.98)}, None).endswith("n/a |")


@pytest.mark.parametrize(
    ("fit_s", "accuracy", "holding", "reached"),
    [
        (5.0, 0.982, ["holds", "holds; 0.10 is aimed at: does not hold"], "ours 5.00 s"),
        (4.0, 0.9806, ["holds", "holds; 0.10 is aimed at: holds"], "ours not reached"),
        (20.0, 0.9, ["does not hold", "does not hold; 0.10 is aimed at: does not hold"], "ours not reached"),
    ],
)
def test_a_claim_is_told_as_it_is(fit_s: float, accuracy: float, holding: list[str], reached: str) -> None:
    claims = table.claims(ARTICLE, ours(fit_s, accuracy))
    assert [claim.partition(": ")[2] for claim in claims[:2]] == holding
    assert claims[2].endswith(reached)


def test_an_all_reduce_sends_what_a_ring_sends() -> None:
    assert all_reduce_s(1e6, 1) == 0
    assert all_reduce_s(1e9, 2) == pytest.approx(4e9 / 370e9, rel=0.01), "each half once there and once back"
    assert all_reduce_s(1e6, 2 * NODE) > all_reduce_s(1e6, NODE) > all_reduce_s(1e6, 2)
