"""What both protocols share: whether work is taken on, how many requests are, and the answer to one."""

import asyncio

from pipeline.config.deploying import Serve
from pipeline.serving.metrics import Metrics
from pipeline.serving.model import Model
from pipeline.serving.refusals import Refused, Why
from pipeline.serving.repository import Repository
from pipeline.serving.waiting import Answer
from pipeline.tensors import Feed

REFUSING_S = 1.0
"""How long telling clients that they get no answer may take, at the end."""

ENDING = Refused(Why.UNAVAILABLE, "the server is ending")


class Service:
    """The repository, the metrics, and whether the server takes on work. Used in the event loop only."""

    def __init__(self, repository: Repository, metrics: Metrics, wanted: Serve) -> None:
        self.repository, self.metrics, self.wanted = repository, metrics, wanted
        self.accepting = False
        self.in_flight: set[asyncio.Task[object]] = set()
        """The requests taken on that are not yet answered, each by the task that handles it."""

    @property
    def ready(self) -> bool:
        """Whether requests to infer are answered."""
        return self.accepting and next(self.repository.models(), None) is not None

    def check_accepting(self) -> None:
        """Raise Refused where the server is about to end."""
        if not self.accepting:
            raise ENDING

    async def infer(self, model: Model, feed: Feed, rows: int, timeout_s: float | None) -> Answer:
        """Return the answer to a request that was checked.

        Raises:
            Refused: the server ends, the queue is full, the time is up, or the inference failed.
        """
        self.check_accepting()
        limit = self.wanted.timeout_s
        return await model.infer(feed, rows, limit if timeout_s is None else min(timeout_s, limit))

    async def drained(self, seconds: float) -> int:
        """Take on no more; wait until all that was taken on is answered, this long at most, and refuse what is left.

        Returns how many requests that were.
        """
        self.accepting = False
        if not self.in_flight:
            return 0
        _, late = await asyncio.wait(list(self.in_flight), timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=REFUSING_S)
        return len(late)
