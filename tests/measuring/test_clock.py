"""The clock: what it counts and what it leaves out."""

import gc
import time

import numpy as np
import pytest

from pipeline.measuring import clock


def test_counts_until_both_the_time_and_the_number_are_reached() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    samples = clock.measure(call, warmup_s=0, min_duration_s=1e-9, min_samples=50)
    assert samples.dtype == np.int64
    assert len(samples) == 50
    assert calls == 51, "one call before the clock starts"
    assert (samples > 0).all()
    longer = clock.measure(call, warmup_s=0, min_duration_s=0.01, min_samples=1)
    assert longer.sum() >= 0.01e9


def test_leaves_garbage_collection_as_it_was_even_after_a_failure() -> None:
    def fails() -> None:
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError):
        clock.measure(fails, warmup_s=0, min_duration_s=0.01, min_samples=1)
    assert gc.isenabled()
    gc.disable()
    try:
        clock.measure(int, warmup_s=0, min_duration_s=1e-6, min_samples=1)
        assert not gc.isenabled(), "where it was off it stays off"
    finally:
        gc.enable()


def test_warms_up_until_the_level_is_stable() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(max(0.03 * 0.8**calls, 0.005))  # falls until the eighth call

    found = clock.warm_up(call, limit_s=30)
    assert found.stable
    assert found.calls == calls >= 8 + clock.WINDOW_CALLS, "a window at the last level, and one more like it"


def test_a_warm_up_ends_at_its_limit_and_says_that_the_level_was_not_stable() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.001 * 1.3**calls)

    found = clock.warm_up(call, limit_s=0.1)
    assert not found.stable
    assert found.calls == calls >= 1
    assert clock.warm_up(call, limit_s=0).calls == 1
