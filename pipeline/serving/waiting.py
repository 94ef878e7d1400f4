"""A request that waits, its answer, and a batch that ran: what passes between the event loop and the workers."""

import asyncio
import time
from dataclasses import dataclass, field

from pipeline.tensors import Feed, Outputs


@dataclass(slots=True)
class Answer:
    """The outputs of one request, and where its time went."""

    outputs: Outputs
    queue_s: float
    infer_s: float
    batch: int
    """Samples that ran together."""


@dataclass(slots=True)
class Waiting:
    """A request that waits for a worker. `future` is done early where nobody waits for it any more."""

    feed: Feed
    rows: int
    future: "asyncio.Future[Answer]"
    shapes: tuple[tuple[int, ...], ...]
    """Of one sample of each input: only equal ones are put together."""
    since: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Ran:
    """A batch that ran: how many requests and samples, and when."""

    requests: int
    rows: int
    queue_s: float
    """Of all its requests together."""
    infer_s: float
