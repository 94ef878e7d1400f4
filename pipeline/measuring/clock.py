"""The one clock: how calls are warmed up and timed. Backends never time themselves, so all numbers are of one kind."""

import gc
import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from pipeline.artifacts.results import WarmUp
from pipeline.backends import Bound
from pipeline.measuring.statistics import Samples

Clock = Literal["perf_counter_ns", "cuda_events"]

STABLE = 0.05
"""A call is warm when the medians of two windows in succession differ by less than this fraction."""

WINDOW_CALLS, WINDOW_S = 5, 0.02


def warm_up(call: Callable[[], object], limit_s: float) -> WarmUp:
    """Call until the level is stable, or for `limit_s`, but at least once; return what it took.

    Compilers, caches, clocks and memory pools settle during the first calls. The level is stable when the medians of
    two windows of calls in succession, each of at least `WINDOW_CALLS` and `WINDOW_S`, differ by less than `STABLE`.
    """
    clock = time.perf_counter
    begun = clock()
    call()  # compiles what is compiled on first use: belongs to no window
    calls, before, stable = 1, 0.0, False
    while not stable and clock() - begun < limit_s:
        window: list[float] = []
        while (len(window) < WINDOW_CALLS or sum(window) < WINDOW_S) and clock() - begun < limit_s:
            start = clock()
            call()
            window.append(clock() - start)
        calls += len(window)
        level = float(np.median(window)) if window else 0.0
        stable = before > 0 and abs(level - before) < STABLE * before
        before = level
    return WarmUp(calls=calls, seconds=round(clock() - begun, 3), stable=stable)


def measure(call: Callable[[], object], *, warmup_s: float, min_duration_s: float, min_samples: int) -> Samples:
    """Return the durations of single calls, int64 [samples] in ns.

    Calls at least once, and for `warmup_s`, before it counts; then until both `min_duration_s` and `min_samples` are
    reached. Garbage collection waits meanwhile.
    """
    samples: list[int] = []
    clock = time.perf_counter_ns
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = clock() + int(warmup_s * 1e9)
        call()
        while clock() < end:
            call()
        start = clock()
        end = start + int(min_duration_s * 1e9)
        while start < end or len(samples) < min_samples:
            call()
            now = clock()
            samples.append(now - start)
            start = now
    finally:
        if collecting:
            gc.enable()
    return np.asarray(samples, np.int64)


def measure_on_device(bound: Bound, *, warmup_s: float, min_duration_s: float, min_samples: int) -> Samples:
    """As `measure`, but by CUDA events on the stream that the inference runs on: int64 [samples] in ns.

    Each inference is waited for before the next is launched.
    """
    from pipeline import cuda

    assert bound.stream is not None
    events = cuda.EventClock(bound.stream)
    samples: list[int] = []

    def call() -> None:
        samples.append(events.time_ns(bound.launch))

    warm = len(measure(call, warmup_s=warmup_s, min_duration_s=min_duration_s, min_samples=min_samples))
    return np.asarray(samples[-warm:], np.int64)
