"""A thread that runs batches in a session of its own, and what it does when one fails."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from queue import Empty
from typing import TYPE_CHECKING

import numpy as np

from pipeline.backends import Session
from pipeline.errors import InputError, first_line
from pipeline.runners.inference import filled
from pipeline.serving.refusals import Refused, Why, invalid
from pipeline.serving.waiting import Waiting
from pipeline.tensors import Array, Feed

if TYPE_CHECKING:
    from pipeline.serving.batching import Batcher

log = logging.getLogger(__name__)

Opener = Callable[[], AbstractContextManager[Session]]
Prepare = Callable[[Session], None]

REOPEN_EVERY_S = 1.0
"""How long a worker waits after its session could not be opened anew."""

_OPENING = threading.Lock()
"""One session is opened at a time: backends hide what libraries write then, for the whole process."""


class Worker:
    """A thread, its session, and the batches it runs."""

    def __init__(self, batcher: "Batcher", opener: Opener, prepare: Prepare, name: str) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._batcher, self._opener, self._prepare, self._name = batcher, opener, prepare, name
        self._held: list[Waiting | None] = []
        """Taken from the queue, and not yet run: what did not fit the last batch."""
        self._again: list[list[Waiting]] = []
        """Batches of one request each: what a batch that failed was made of."""

    def start(self) -> None:
        # A thread that hangs in a library must not keep the process from its end.
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        try:
            with self._opened() as session:
                self._batcher.soon(_done, self.ready)
                more = self._serve(session)
            while more:
                more = self._reopened()
        except BaseException as error:  # before it was ready: whoever starts it is told
            self._batcher.soon(_failed, self.ready, error)
        finally:
            self._batcher.soon(_done, self.gone)

    @contextmanager
    def _opened(self) -> Iterator[Session]:
        with ExitStack() as stack:
            with _OPENING:
                session = stack.enter_context(self._opener())
                self._prepare(session)  # which may open what it is made of
            yield session

    def _reopened(self) -> bool:
        """Open the session anew, and serve with it; return whether to do so again."""
        try:
            with self._opened() as session:
                log.warning("session reopened", extra={"worker": self._name})
                return self._serve(session)
        except Exception as error:
            log.error("session cannot be reopened", extra={"worker": self._name, "reason": first_line(error)})
        batch = self._next()
        if not batch:
            return False
        self._batcher.refuse(batch, Refused(Why.UNAVAILABLE, "the model failed and cannot be opened again"))
        time.sleep(REOPEN_EVERY_S)
        return True

    def _serve(self, session: Session) -> bool:
        """Run batches until there are no more (False) or one fails in a way that may have hurt the session (True)."""
        while batch := self._next():
            began = time.perf_counter()
            try:
                outputs = self._infer(session, batch)
            except InputError as error:
                self._failed(batch, invalid(error.message))
            except Exception as error:  # also MemoryError: it is this batch's, and nobody else's
                log.error("inference failed", extra={"worker": self._name, "reason": first_line(error)})
                self._failed(batch, Refused(Why.BROKEN, f"the inference failed: {type(error).__name__}"))
                return True
            else:
                self._batcher.answer(batch, outputs, began, time.perf_counter())
            del batch  # else the last request's memory is kept until the next
        return False

    def _failed(self, batch: list[Waiting], refused: Refused) -> None:
        """Refuse a request; of several, run each alone, so that only the one at fault is refused."""
        if len(batch) == 1:
            self._batcher.refuse(batch, refused)
        else:
            self._again = [[one] for one in batch]

    def _infer(self, session: Session, batch: list[Waiting]) -> dict[str, Array]:
        feed = batch[0].feed if len(batch) == 1 else _together(batch)
        rows, smallest = sum(one.rows for one in batch), self._batcher.smallest
        outputs = session.run(filled(feed, smallest))
        if any(len(found) != max(rows, smallest) for found in outputs.values()):
            raise ValueError("an output does not have one row for each sample")
        # Copied: the session writes there again.
        return {name: found[:rows].copy() for name, found in outputs.items()}

    def _next(self) -> list[Waiting]:
        """Return what runs next, as soon as there is something; nothing: the worker shall end."""
        while self._again:
            if not (batch := self._again.pop(0))[0].future.done():
                return batch
        first = self._first()
        if first is None:
            return []
        batch, rows, largest = [first], first.rows, self._batcher.largest
        while rows < largest:
            try:
                one = self._batcher.take_at_once()
            except Empty:
                break
            if one is None or one.shapes != first.shapes or rows + one.rows > largest:
                self._held.append(one)
                break
            if not one.future.done():
                batch.append(one)
                rows += one.rows
        return batch

    def _first(self) -> Waiting | None:
        """Return the next request that somebody still waits for."""
        while True:
            one = self._held.pop() if self._held else self._batcher.take()
            if one is None or not one.future.done():
                return one


def _together(batch: Sequence[Waiting]) -> Feed:
    return {name: np.concatenate([one.feed[name] for one in batch]) for name in batch[0].feed}


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _failed(future: "asyncio.Future[None]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
