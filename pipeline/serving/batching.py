"""Dynamic batching without a timer: a worker takes whatever has gathered while the last batch ran.

A lone request never waits for others, and under load batches grow by themselves.
"""

import asyncio
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from pipeline.serving.refusals import Refused, Why
from pipeline.serving.waiting import Answer, Ran, Waiting
from pipeline.serving.worker import Opener, Prepare, Worker
from pipeline.tensors import Outputs


class Batcher:
    """A bounded queue, and the workers that empty it."""

    def __init__(
        self,
        opener: Opener,
        prepare: Prepare,
        *,
        name: str,
        workers: int,
        smallest: int,
        largest: int,
        queue: int,
        ran: Callable[[Ran], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._capacity = queue
        self._ran = ran
        self.smallest, self.largest = smallest, largest
        self._workers = [Worker(self, opener, prepare, f"{name} {number}") for number in range(workers)]

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._queue.qsize()

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    async def start(self) -> None:
        """Start the workers, each of which opens and prepares its session; raise what keeps one from it."""
        for worker in self._workers:
            worker.start()
        try:
            await asyncio.gather(*(worker.ready for worker in self._workers))
        except BaseException:
            await self.stop()
            raise

    def submit(self, waiting: Waiting) -> None:
        """Let a request wait for a worker.

        Raises:
            Refused: the queue is full.
        """
        if self._queue.qsize() >= self._capacity:
            raise Refused(Why.FULL, f"{self._capacity} requests wait already: try again later")
        self._queue.put(waiting)

    async def stop(self) -> None:
        """End the workers and close their sessions, after everything that waits was answered."""
        for _ in self._workers:
            self._queue.put(None)
        await asyncio.gather(*(worker.gone for worker in self._workers))

    def take(self) -> Waiting | None:
        """Return the next request, as soon as there is one; None: the worker shall end."""
        return self._queue.get()

    def take_at_once(self) -> Waiting | None:
        """Return the next request, where one waits.

        Raises:
            Empty: none does.
        """
        return self._queue.get_nowait()

    def answer(self, batch: Sequence[Waiting], outputs: Outputs, began: float, ended: float) -> None:
        """Give each request its rows; from a worker."""
        self.soon(self._answer, batch, outputs, began, ended)

    def refuse(self, batch: Sequence[Waiting], refused: Refused) -> None:
        """Tell requests why they are not answered; from a worker."""
        self.soon(_refuse, batch, refused)

    def soon(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the event loop; from a worker. Once the loop has ended nobody waits for it."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _answer(self, batch: Sequence[Waiting], outputs: Outputs, began: float, ended: float) -> None:
        rows = sum(one.rows for one in batch)
        took, at, queued = ended - began, 0, 0.0
        for one in batch:
            end, waited = at + one.rows, began - one.since
            if not one.future.done():
                mine = {name: array[at:end] for name, array in outputs.items()}
                one.future.set_result(Answer(mine, waited, took, rows))
            at, queued = end, queued + waited
        self._ran(Ran(len(batch), rows, queued, took))


def _refuse(batch: Sequence[Waiting], refused: Refused) -> None:
    for one in batch:
        if not one.future.done():
            one.future.set_exception(refused)
