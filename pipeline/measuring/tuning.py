"""How this machine runs a graph fastest: steps are tried, and the fastest that compute the same are recorded.

A large batch fed whole pushes its own activations out of the cache, and threads help only where there is enough to
share. Only what was faster than the library's default by more than the noise is taken, so that a tuning record never
makes anything slower. On the only GPU so far, an H200, nothing was faster for CUDA's provider. No engine was tuned yet.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from pipeline import environment, precisions
from pipeline.artifacts.engine import TriedWay, TunedBatch
from pipeline.artifacts.runner import Step
from pipeline.backends import Session
from pipeline.errors import BackendUnavailable, InputError
from pipeline.measuring import clock
from pipeline.runners import Runner
from pipeline.tensors import Array, Outputs, TensorSpec, Tolerance

BATCHES = (1, 8, 64, 256, 1024)
CHUNKS = (16, 32, 64, 128, 256)
STREAMS = (1, 2, 3)

BUDGET_S = 8.0
"""Seconds for one graph in one variant: larger batches of a slow model are left to the library's default."""
MEASURE_S = 0.02
ROUNDS = 9
FINALISTS = 3
GAIN = 1.05
"""A way is taken where its shortest call in `ROUNDS` interleaved rounds was faster by this much than the default's
shortest, and it was the faster one in most rounds too."""

ONE_THREAD_US = 200
"""One thread is tried for calls shorter than this: there, waking the others can cost more than they save. For longer
ones it would win only on a machine that is busy with something else while it tunes."""


DEFAULT = Step(batch=1)
"""The library's default: the batch whole, with the threads it chooses."""


@runtime_checkable
class Follows(Protocol):
    """A session that can change its steps.

    Else one is loaded for each way, and their threads get in each other's way: on two cores, the first calls after
    another session's took 1.6 times as long.
    """

    def follow(self, steps: Sequence[Step]) -> None:
        """Run batches by these steps from now on."""
        ...


class Tuned(NamedTuple):
    """What `tune` found: the steps, and what it measured."""

    steps: tuple[Step, ...]
    measured: tuple[TunedBatch, ...]


def tune(runner: Runner, batches: Sequence[int] = BATCHES, budget_s: float = BUDGET_S) -> Tuned:
    """Measure how a runner's model is run fastest, at each of these batch sizes.

    A way must compute what the library's default computes, within the precision's tolerance: a graph may mix the
    samples of a batch, and then it cannot be run in pieces. There are no steps where the batch is fixed, or nothing is
    faster.

    Raises:
        BackendUnavailable: the runner is not available on this machine.
    """
    end = time.monotonic() + budget_s
    tolerance = precisions.get(runner.record.precision).tolerance
    with _Sessions(runner) as sessions:
        inputs = sessions.of(DEFAULT).inputs
        if any(not spec.shape or spec.shape[0] is not None or None in spec.shape[1:] for spec in inputs):
            return Tuned((), ())
        trials: list[_Trial] = []
        for batch in sorted(batches):
            if trials:
                # Three calls for each measurement, the first to warm up.
                expected_s = max(trials[-1].least_us(DEFAULT) / 1e6 * batch / trials[-1].batch * 3, MEASURE_S)
                if time.monotonic() + expected_s * (1 + len(CHUNKS) + ROUNDS * (1 + FINALISTS)) > end:
                    break
            feed = {spec.name: _values(spec, batch) for spec in inputs}
            before = trials[-1].way if trials else DEFAULT

            def run(way: Step, feed: dict[str, Array] = feed) -> Outputs:
                return sessions.of(way).run(feed)

            try:
                trials.append(_try(run, runner, batch, before, tolerance))
            except (BackendUnavailable, InputError):
                break  # more than the graph or the memory takes
    return Tuned(_steps(trials), tuple(trial.record() for trial in trials))


class _Sessions:
    """The sessions by which ways are tried: one that changes its steps, or else one for each way."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._sessions: dict[Step, Session] = {}
        self._following = DEFAULT
        self._stack = ExitStack()

    def __enter__(self) -> "_Sessions":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, way: Step) -> Session:
        """Return a session that runs batches this way."""
        first: Any = self._sessions.get(DEFAULT)
        if isinstance(first, Follows):
            if way is not self._following:
                first.follow(() if way == DEFAULT else (way,))
                self._following = way
            return self._sessions[DEFAULT]
        if way not in self._sessions:
            record = self._runner.record
            options = record.options.model_copy(update={"steps": () if way == DEFAULT else (way,)})
            one = replace(self._runner, record=record.model_copy(update={"options": options}))
            self._sessions[way] = self._stack.enter_context(one.open())
        return self._sessions[way]


def candidates(runner: Runner, batch: int, default_us: float) -> list[Step]:
    """Return the ways to run a batch of this size other than the library's default, which takes `default_us`.

    They are steps from batch 1 on.
    """
    chunks = [chunk for chunk in CHUNKS if chunk < batch]
    streams = STREAMS if runner.record.batches else (1,)  # only an engine, which has a profile, goes over several
    ways = [Step(batch=1, chunk=chunk, streams=count) for count in streams for chunk in chunks]
    if runner.device == "cpu" and environment.cpu_count() > 1 and default_us < ONE_THREAD_US:
        ways.append(Step(batch=1, threads=1))
    return ways


class _Trial(NamedTuple):
    """What was found at one batch size: a first time of each way, those of the finalists in each round, the choice."""

    batch: int
    default_us: float
    screened_us: dict[Step, float]
    rounds_us: dict[Step, list[float]]
    way: Step

    def least_us(self, way: Step) -> float:
        return min(self.rounds_us.get(way) or [self.default_us])

    def gain(self, way: Step) -> float:
        """Return how much faster a finalist's shortest call was than the default's."""
        return self.least_us(DEFAULT) / self.least_us(way)

    def faster_in_most_rounds(self, way: Step) -> bool:
        ratios = np.divide(self.rounds_us[DEFAULT], self.rounds_us[way])
        return float(np.median(ratios)) > 1

    def no_slower(self, way: Step) -> bool:
        return way in self.rounds_us and (self.gain(way) >= 1 or self.faster_in_most_rounds(way))

    def record(self) -> TunedBatch:
        ways = {DEFAULT: self.default_us} | self.screened_us
        return TunedBatch(
            batch=self.batch,
            ways=tuple(
                TriedWay(
                    threads=way.threads,
                    chunk=way.chunk,
                    streams=way.streams,
                    taken=way == self.way,
                    us=us,
                    rounds_us=tuple(self.rounds_us.get(way, ())),
                )
                for way, us in ways.items()
            ),
        )


def _try(run: Callable[[Step], Outputs], runner: Runner, batch: int, before: Step, tolerance: Tolerance) -> _Trial:
    """Time every way once, and then the fastest in rounds with the default, and `before`: the smaller batch's way."""
    expected = {name: array.copy() for name, array in run(DEFAULT).items()}
    default_us = _least_us(lambda: run(DEFAULT))
    screened = {}
    for way in candidates(runner, batch, default_us):
        with suppress(BackendUnavailable, InputError):  # an engine's profile may have no room for so small a piece
            if all(tolerance.holds(array, expected[name]) for name, array in run(way).items()):
                screened[way] = _least_us(lambda way=way: run(way))  # type: ignore[misc]
    finalists = sorted(screened, key=lambda way: screened[way])[:FINALISTS]
    times: dict[Step, list[float]] = {way: [] for way in (DEFAULT, *finalists, *({before} & screened.keys()))}
    for _ in range(ROUNDS if finalists else 0):
        for way, found in times.items():
            found.append(_least_us(lambda way=way: run(way)))  # type: ignore[misc]
    trial = _Trial(batch, default_us, screened, times, DEFAULT)
    gains = {way: trial.gain(way) for way in times if way != DEFAULT and trial.faster_in_most_rounds(way)}
    best = max(gains, key=lambda way: gains[way], default=DEFAULT)
    return trial._replace(way=best) if gains.get(best, 0) >= GAIN else trial


def _least_us(call: Callable[[], object]) -> float:
    """Return the shortest of the calls in µs: what other processes add to a time is never negative (Python's timeit).

    By medians, a machine that is busy while it tunes would use one thread for ever.
    """
    samples = clock.measure(call, warmup_s=0, min_duration_s=MEASURE_S, min_samples=2)
    return float(np.min(samples)) / 1e3


def _steps(trials: Sequence[_Trial]) -> tuple[Step, ...]:
    """Return the steps. Between two sizes measured, the smaller one's way holds where it is no slower at the larger."""
    steps: list[Step] = []

    def emit(batch: int, way: Step) -> None:
        if way.model_copy(update={"batch": 1}) != (steps[-1].model_copy(update={"batch": 1}) if steps else DEFAULT):
            steps.append(way.model_copy(update={"batch": batch}))

    for i, trial in enumerate(trials):
        emit(trial.batch, trial.way)
        if i + 1 < len(trials):
            holds = trials[i + 1].way == trial.way or trials[i + 1].no_slower(trial.way)
        else:
            holds = trial.way.chunk is not None  # a larger batch is more of the same pieces
        if not holds:
            emit(trial.batch + 1, DEFAULT)
    return tuple(steps)


def _values(spec: TensorSpec, batch: int) -> Array:
    """Return random values for an input, as pixels are: 0 to 255 in an integer type, 0 to 1 in another."""
    random = np.random.default_rng(0)
    shape = [batch, *(size for size in spec.shape[1:] if size is not None)]
    if spec.dtype.kind in "iu":
        return random.integers(0, min(256, np.iinfo(spec.dtype).max + 1), shape, spec.dtype)
    return random.random(shape, np.float32).astype(spec.dtype)
