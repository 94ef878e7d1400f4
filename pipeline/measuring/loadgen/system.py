"""MLPerf LoadGen: a scenario's rules, the system under test that it drives, and what its logs say.

LoadGen is C++ and cannot be stopped from inside: an exception that crosses it, or Ctrl-C, would take the process down
or be stuck until the test is over. So it runs in its own process, which ends with the error.
"""

import gc
import itertools
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.loadgen import Expected
from pipeline.backends import Session
from pipeline.config import Loadgen
from pipeline.errors import BackendUnavailable, ConfigError
from pipeline.measuring import clock
from pipeline.measuring.loadgen.answers import Answers
from pipeline.measuring.loadgen.process import Fail
from pipeline.tensors import Array, Feed

NAMES = {"singlestream": "SingleStream", "multistream": "MultiStream", "server": "Server", "offline": "Offline"}
"""Our names of the scenarios, and LoadGen's."""

MLPERF_SECONDS = 600.0
"""The least duration of each scenario by MLPerf's rules."""

RULES = "resnet50"
"""The entry of mlperf.conf, which LoadGen has built in, whose rules are taken: image classification's.

Percentiles, samples per query, least counts (MultiStream: 662 queries, Offline: 24,576 samples), seeds, and how many
samples are in use at a time.
"""

EARLY_STOPPING_P99 = 662
"""Queries below which early stopping allows no late one at the 99th percentile; mlperf.conf has it for MultiStream."""

_QUERY_BYTES, _SAMPLE_BYTES, _OFFLINE_SAMPLE_BYTES = 310, 45, 160
"""What LoadGen allocates before it starts, measured with 6.0.17; Offline hands Python lists of all ids and indices."""


_MEMORY = Path("/proc/meminfo")


def library() -> Any:
    """Return the module mlperf_loadgen.

    Raises:
        BackendUnavailable: it is not installed; there are wheels for Linux only.
    """
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise BackendUnavailable(
            f"MLPerf LoadGen cannot be imported: {error}",
            "Its wheels are for Linux only: run this there, after `make setup` or `pip install mlcommons-loadgen`.",
        ) from error
    return mlperf_loadgen


class SystemUnderTest:
    """Answers LoadGen's queries, one after the other.

    Args:
        session: what runs the model.
        samples: the inputs of every sample, in memory: [samples, …] by name.
        batches: the smallest and largest batch that the session takes.
        largest: samples per inference, at most.
        fail: called with what an inference raised; ends the process.
        best_of: see `Answers`.
    """

    def __init__(
        self,
        session: Session,
        samples: Feed,
        batches: tuple[int, int],
        largest: int,
        fail: Fail,
        best_of: str = "",
    ) -> None:
        self._library = {name: np.ascontiguousarray(rows) for name, rows in samples.items()}
        self.samples = len(next(iter(self._library.values())))
        self._run, self._fail = session.run, fail
        fixed = session.inputs[0].shape[0]
        self._smallest, limit = batches if fixed is None else (fixed, fixed)
        self.largest = max(self._smallest, min(largest, limit))
        lg = library()
        self.answers = Answers(lg.QuerySampleResponse, self.largest, best_of)
        self._complete = lg.QuerySamplesComplete
        # A session need not bind again what lies where it lay before.
        self._feeds: dict[int, dict[str, Array]] = {}

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """Answer a query; what LoadGen calls."""
        try:
            for size, start in self._pieces(len(ids)):
                self.infer(indices[start : start + size])
                responses = self.answers.responses[:size]
                for response, number in zip(responses, ids[start : start + size], strict=True):
                    response.id = number
                self._complete(responses)
        except BaseException as error:
            self._fail(error)

    def infer(self, indices: list[int]) -> None:
        """Infer samples, no more than `largest`, into the buffer of answers."""
        count = len(indices)
        size = max(count, self._smallest)
        feed = self._feeds.get(size)
        if feed is None:
            feed = self._feeds[size] = {
                name: np.zeros((size, *rows.shape[1:]), rows.dtype) for name, rows in self._library.items()
            }
        for name, rows in self._library.items():  # what a batch below the smallest lacks stays as it was
            if count == 1:
                feed[name][0] = rows[indices[0]]
            else:
                # NumPy copies twice where it has to check the indices; LoadGen's are within the library.
                rows.take(indices, axis=0, out=feed[name][:count], mode="clip")
        self.answers.put(self._run(feed), count)

    def measure(self, count: int) -> Array:
        """Return the durations in ns of inferring `count` samples, any number, as a query of that many is."""
        indices = np.resize(np.arange(self.samples), count).tolist()

        def call() -> None:
            for size, start in self._pieces(count):
                self.infer(indices[start : start + size])

        return clock.measure(call, warmup_s=0.3, min_duration_s=0.5, min_samples=3)

    def warm_up(self, limit_s: float) -> None:
        """Infer every size of batch that can come, the small ones first, for about `limit_s` at most."""
        end = time.monotonic() + limit_s
        sizes = (1 << power for power in range(self.largest.bit_length()))
        for size in itertools.takewhile(lambda _: time.monotonic() < end, sizes):
            self.infer(np.resize(np.arange(self.samples), size).tolist())

    def _pieces(self, count: int) -> list[tuple[int, int]]:
        """Return size and start of the batches for `count` samples: the largest, then powers of two.

        Server's queries come merged in any number, and a new shape costs some sessions a preparation.
        """
        pieces, start = [], 0
        while start < count:
            left = count - start
            size = self.largest if left >= self.largest else 1 << (left.bit_length() - 1)
            pieces.append((size, start))
            start += size
        return pieces


def configure(system: SystemUnderTest, options: Loadgen, seconds: float | None) -> tuple[Any, Expected]:
    """Return LoadGen's settings for a scenario by MLPerf's rules, with rates as measured, and what to expect.

    A shorter `seconds` changes the least duration only. The least counts stay: below them a result means nothing, and a
    slow model takes longer than asked instead.

    Raises:
        ConfigError: LoadGen would need more memory than there is, since it makes all queries before it starts.
    """
    lg, scenario = library(), NAMES[options.scenario]
    settings = lg.TestSettings()
    if settings.FromConfig("", RULES, scenario, 0):  # 0: the rules built into LoadGen
        raise RuntimeError(f"LoadGen has no rules for {RULES}, {scenario}")
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.AccuracyOnly if options.mode == "accuracy" else lg.TestMode.PerformanceOnly
    least_s = MLPERF_SECONDS if seconds is None else seconds
    settings.min_duration_ms = max(1, round(least_s * 1000))
    size = {"multistream": settings.multi_stream_samples_per_query, "offline": system.largest}.get(options.scenario, 1)
    if options.scenario == "server":
        system.warm_up(limit_s=2.0)
    times_ns = system.measure(size)
    fastest_ns, mean_ns = float(times_ns.min()), float(times_ns.mean())
    # LoadGen ends early, and INVALID, where it runs out of queries. It makes them for twice the time; as the fastest
    # inference of many is no guess, a tenth more than that allows is enough, and takes half the memory.
    spacing_ns = max(1, round(2 / 1.1 * fastest_ns))
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = spacing_ns
    settings.offline_expected_qps = size * 1e9 / fastest_ns
    # Half of what it can on average: an arrival process without reserve has no bounded latency.
    settings.server_target_qps = options.server_qps or 0.5e9 / mean_ns
    settings.server_target_latency_ns = round(options.server_latency_ms * 1e6)
    settings.server_coalesce_queries = True  # what is overdue is answered as one batch
    if options.mode == "accuracy":
        queries = math.ceil(system.samples / size)
        rate = settings.server_target_qps if options.scenario == "server" else size * 1e9 / mean_ns
        expected = Expected(seconds=system.samples / rate, queries=queries, samples_per_query=size, samples_per_s=rate)
    elif options.scenario == "offline":
        # LoadGen adds a tenth to what is expected to fill the time.
        samples = max(settings.min_query_count, int(1.1 * least_s * settings.offline_expected_qps))
        expected = Expected(
            seconds=samples * mean_ns / (size * 1e9),
            queries=1,
            samples_per_query=samples,
            samples_per_s=size * 1e9 / mean_ns,
        )
    elif options.scenario == "server":
        settings.min_query_count = max(settings.min_query_count, EARLY_STOPPING_P99)
        queries = max(settings.min_query_count, int(least_s * settings.server_target_qps))
        rate = settings.server_target_qps
        expected = Expected(seconds=queries / rate, queries=queries, samples_per_query=1, samples_per_s=rate)
        # A rate beyond the model's would otherwise run for as long as its queue takes.
        settings.max_duration_ms = round(2000 * expected.seconds) + 1000
    else:
        queries = max(settings.min_query_count, int(2 * least_s * 1e9 / spacing_ns))
        seconds_needed = max(least_s, settings.min_query_count * mean_ns / 1e9)
        expected = Expected(
            seconds=seconds_needed, queries=queries, samples_per_query=size, samples_per_s=size * 1e9 / mean_ns
        )
    _check_memory(expected, least_s)
    return settings, expected


def _check_memory(expected: Expected, seconds: float) -> None:
    per_sample = _OFFLINE_SAMPLE_BYTES if expected.queries == 1 else _SAMPLE_BYTES
    needed = expected.queries * (_QUERY_BYTES + expected.samples_per_query * per_sample)
    lines = _MEMORY.read_text(encoding="ascii").splitlines() if _MEMORY.exists() else ()
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), math.inf)
    if needed > 0.8 * available:
        fitting = seconds * 0.75 * available / needed
        raise ConfigError(
            f"LoadGen makes all queries before it starts: {seconds:g} s of a model this fast take "
            f"{needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free",
            f"Ask for less, as --set benchmark.seconds={max(1, int(fitting))}.",
        )


def conduct(system: SystemUnderTest, settings: Any, folder: Path) -> None:
    """Run the test; LoadGen writes its logs into `folder`. Errors within it end in the system's `fail`."""
    lg = library()
    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = False  # it writes 660 bytes a query meanwhile
    with ExitStack() as stack:
        under_test = lg.ConstructFastSUT(system.issue, _nothing)
        stack.callback(lg.DestroyFastSUT, under_test)
        samples = lg.ConstructQSL(system.samples, system.samples, _nothing, _nothing)  # they are in memory
        stack.callback(lg.DestroyQSL, samples)
        gc.collect()
        gc.disable()
        stack.callback(gc.enable)
        # No name: LoadGen would obey an audit.config that happens to lie in the working directory.
        lg.StartTestWithLogSettings(under_test, samples, settings, logs, "")


def _nothing(*_: object) -> None:
    pass
