"""The optimization profiles that engines get where none are configured."""

import pytest

from pipeline.data import sizes
from pipeline.tensors import Range


@pytest.mark.parametrize(
    ("batch_sizes", "profiles"),
    [
        ((1, 64, 1024), ((1, 1, 1), (2, 64, 64), (65, 1024, 1024))),
        ((64, 1, 64), ((1, 1, 1), (2, 64, 64))),
        ((1, 2), ((1, 1, 1), (2, 2, 2))),
        ((8,), ((1, 8, 8),)),
    ],
)
def test_each_batch_size_has_a_profile_that_is_best_at_it(
    batch_sizes: tuple[int, ...], profiles: tuple[Range, ...]
) -> None:
    assert sizes.profiles(batch_sizes) == profiles
