"""A runner of a bundle that answers requests: its interface, its workers, what it has done."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pipeline import environment
from pipeline.artifacts.bundle import BundledRunner
from pipeline.backends import Session, step_of
from pipeline.config.deploying import Serve
from pipeline.deployment.bundle import Bundle
from pipeline.errors import ArtifactError, InputError, first_line
from pipeline.runners.inference import limits
from pipeline.serving.batching import Batcher
from pipeline.serving.interface import Interface, Tensor
from pipeline.serving.refusals import Refused, Why
from pipeline.serving.statistics import Statistics
from pipeline.serving.waiting import Answer, Ran, Waiting
from pipeline.tensors import Feed, TensorSpec, fixed_batch

log = logging.getLogger(__name__)

WARM_BATCHES = (1, 2, 8)
"""Batches that every session runs before it is used, besides the largest."""

UNKNOWN_AXIS = 16
"""The size of a dynamic axis in the samples that a session is warmed with."""

SHORT_RUN_US = 100.0
"""A model that runs in less, at the smallest batch timed, has one worker: the event loop spends as long on a request,
and another worker would only contend with it for Python's lock."""

Counted = Callable[[str, Ran], None]
"""Told of every batch that ran: the name of the model, and what ran."""


class Model:
    """A loaded runner under the name that clients ask for."""

    def __init__(self, bundle: Bundle, runs: BundledRunner, name: str, wanted: Serve, counted: Counted) -> None:
        self.bundle, self.runs, self.name = bundle, runs, name
        self.version = str(bundle.record.version)
        self.statistics = Statistics()
        self.timeout_s = wanted.timeout_s
        self.parsed: dict[bytes, Any] = {}
        """Headers of requests that were read before: clients repeat them."""
        record = bundle.record
        specs = record.signature.inputs
        smallest, largest = limits(runs.runner)
        if fixed := fixed_batch(specs):
            smallest = largest = fixed
        largest = min(largest, max(wanted.max_batch or max(record.batch_sizes), smallest))
        self.interface = Interface(
            {spec.name: Tensor.of(spec) for spec in specs},
            {one.name: Tensor.of(one.spec, one.classes) for one in record.outputs},
            largest,
        )
        self._wanted, self._counted = wanted, counted
        self._batcher = Batcher(
            partial(bundle.runner(runs).open, spin=False),  # the event loop and other workers need the cores
            self._prepare,
            name=name,
            workers=wanted.workers or _workers(runs),
            smallest=smallest,
            largest=largest,
            queue=wanted.queue,
            ran=self._ran,
        )

    @property
    def max_batch(self) -> int:
        """The samples that a request may have, and that run together, at most."""
        return self._batcher.largest

    @property
    def workers(self) -> int:
        """How many sessions it has."""
        return self._batcher.workers

    @property
    def waiting(self) -> int:
        """How many requests wait for a worker."""
        return self._batcher.waiting

    async def start(self) -> None:
        """Open and warm the sessions.

        Raises:
            BackendUnavailable: this machine does not run it.
            ArtifactError: a file has changed since the bundle was checked, or takes something else than it says.
        """
        await self._batcher.start()

    async def stop(self) -> None:
        """Answer what waits, and close the sessions."""
        await self._batcher.stop()

    async def infer(self, feed: Feed, rows: int, timeout_s: float) -> Answer:
        """Return the answer to a request that was checked; it is dropped where the caller is cancelled.

        Raises:
            Refused: the queue is full, the time is up, or the inference failed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._batcher.submit(Waiting(feed, rows, future, tuple([array.shape[1:] for array in feed.values()])))
        timer = loop.call_later(timeout_s, _expire, future, timeout_s)
        began = time.perf_counter()
        try:
            answer = await future
        except Refused:
            self.statistics.fail.add(time.perf_counter() - began)
            raise
        finally:
            timer.cancel()
        self.statistics.success.add(time.perf_counter() - began)
        self.statistics.last_ms = int(time.time() * 1e3)
        return answer

    def _ran(self, ran: Ran) -> None:
        self.statistics.ran(ran)
        self._counted(self.name, ran)

    def _prepare(self, session: Session) -> None:
        """Check a session against what the bundle says, and warm it: the first inference of a size is slow."""
        record = self.bundle.record
        for said, found in ((record.inputs, session.inputs), (record.outputs, session.outputs)):
            if {one.name: np.dtype(one.dtype) for one in said} != {spec.name: spec.dtype for spec in found}:
                raise ArtifactError(
                    f"{self.runs.runner.file} takes or returns something else than {self.bundle.folder} says",
                    "Run `make deploy`.",
                )
        steps = (step.batch for step in self.runs.runner.options.steps)  # each may have threads of its own to start
        wanted = {*WARM_BATCHES, *steps, self.max_batch}
        sizes = sorted({min(max(size, self._batcher.smallest), self.max_batch) for size in wanted})
        try:
            for size in sizes:
                session.run({spec.name: _zeros(spec, size) for spec in session.inputs})
        except InputError as error:
            if not any(None in spec.shape[1:] for spec in session.inputs):
                raise
            # Which sizes a dynamic axis may have is not in the bundle.
            log.warning("not warmed", extra={"model": self.name, "reason": first_line(error)})


def _zeros(spec: TensorSpec, batch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    return np.zeros([batch, *(UNKNOWN_AXIS if size is None else size for size in spec.shape[1:])], spec.dtype)


def _workers(runs: BundledRunner) -> int:
    """Return how many sessions keep the cores busy: on a GPU one, else by the threads that each of them takes."""
    run_us = next((one.p50_us for one in runs.measured if one.p50_us is not None), None)
    if (runs.device or "cpu") != "cpu" or (run_us is not None and run_us < SHORT_RUN_US):
        return 1
    options = runs.runner.options
    step = step_of(options.steps, 1)
    threads = (step and step.threads) or options.threads or environment.cpu_count()
    return max(1, environment.cpu_count() // threads)


def _expire(future: "asyncio.Future[Answer]", timeout_s: float) -> None:
    if not future.done():
        future.set_exception(Refused(Why.EXPIRED, f"not answered within {timeout_s:g} s"))
