"""What is put together, what is not, and what becomes of a batch of which one request is at fault."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pipeline.backends import Session
from pipeline.errors import BackendUnavailable, InputError
from pipeline.serving.batching import Batcher
from pipeline.serving.refusals import Refused, Why
from pipeline.serving.waiting import Answer, Ran, Waiting
from pipeline.tensors import Feed, Outputs, TensorSpec

WRONG = 13


class Doubling:
    """A session that doubles; it writes each answer to the same memory, as sessions may, and refuses WRONG."""

    inputs = outputs = (TensorSpec("x", (None, None), np.dtype(np.int64)),)
    device, settings = "cpu", {}

    def __init__(self, gate: threading.Event) -> None:
        self._gate, self._memory = gate, np.empty((64, 64), np.int64)
        self.ran: list[tuple[int, ...]] = []
        self.thread = threading.get_ident()

    def run(self, feed: Feed) -> Outputs:
        assert threading.get_ident() == self.thread, "a session is used in the thread that opened it"
        self._gate.wait(10)
        x = feed["x"]
        if WRONG in x:
            raise InputError("13 is refused")
        self.ran.append(x.shape)
        found = self._memory[: x.shape[0], : x.shape[1]]
        np.multiply(x, 2, out=found)
        return {"y": found}

    def bind(self, feed: Feed) -> Any:
        raise BackendUnavailable("not needed")


class Case:
    """A batcher of one worker that is kept from running until `gate` is set."""

    def __init__(self, *, smallest: int = 1, largest: int = 8, queue: int = 64) -> None:
        self.gate, self.sessions, self.told = threading.Event(), list[Doubling](), list[Ran]()
        limits = {"smallest": smallest, "largest": largest, "queue": queue}
        self.batcher = Batcher(self._open, lambda session: None, name="x", workers=1, ran=self.told.append, **limits)

    @contextmanager
    def _open(self) -> Iterator[Session]:
        self.sessions.append(Doubling(self.gate))
        yield self.sessions[-1]

    def ask(self, values: Sequence[Sequence[int]]) -> "asyncio.Future[Answer]":
        x = np.array(values)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.batcher.submit(Waiting({"x": x}, len(x), future, (x.shape[1:],)))
        return future

    async def first_taken(self) -> "asyncio.Future[Answer]":
        """Let a request be taken by the worker, which waits at the gate with it."""
        found = self.ask([[0]])
        while self.batcher.waiting:
            await asyncio.sleep(0.001)
        return found


def _rows(answer: Answer) -> list[list[int]]:
    found: list[list[int]] = answer.outputs["y"].tolist()
    return found


def test_only_equal_shapes_are_put_together_up_to_the_largest_batch_in_their_order() -> None:
    async def run() -> None:
        case = Case(largest=4)
        await case.batcher.start()
        asked = [await case.first_taken()]
        asked += [case.ask([[n]]) for n in (1, 2, 3)]
        asked += [case.ask([[4], [5]]), case.ask([[6, 7]]), case.ask([[8, 9]]), case.ask([[10]])]
        case.gate.set()
        answers = await asyncio.gather(*asked)
        await case.batcher.stop()
        assert case.sessions[0].ran == [(1, 1), (3, 1), (2, 1), (2, 2), (1, 1)]
        expected = [[[0]], [[2]], [[4]], [[6]], [[8], [10]], [[12, 14]], [[16, 18]], [[20]]]
        assert [_rows(answer) for answer in answers] == expected, "each has its own, copied from the session's memory"
        assert [one.batch for one in answers] == [1, 3, 3, 3, 2, 2, 2, 1]
        assert [(one.requests, one.rows) for one in case.told] == [(1, 1), (3, 3), (1, 2), (2, 2), (1, 1)]

    asyncio.run(run())


def test_a_batch_below_the_smallest_is_filled_up() -> None:
    async def run() -> None:
        case = Case(smallest=4)
        case.gate.set()
        await case.batcher.start()
        assert _rows(await case.ask([[1], [2]])) == [[2], [4]]
        await case.batcher.stop()
        assert case.sessions[0].ran == [(4, 1)]

    asyncio.run(run())


def test_of_a_batch_only_the_request_at_fault_is_refused() -> None:
    async def run() -> None:
        case = Case()
        await case.batcher.start()
        await case.first_taken()
        good, bad, also_good = case.ask([[1]]), case.ask([[WRONG]]), case.ask([[2]])
        case.gate.set()
        assert (_rows(await good), _rows(await also_good)) == ([[2]], [[4]])
        with pytest.raises(Refused, match="13 is refused") as refused:
            await bad
        assert refused.value.why is Why.INVALID
        await case.batcher.stop()
        assert len(case.sessions) == 1, "the session is none the worse"

    asyncio.run(run())


def test_what_was_given_up_is_not_run_and_what_waits_at_the_end_is() -> None:
    async def run() -> None:
        case = Case()
        await case.batcher.start()
        await case.first_taken()
        given_up, wanted = case.ask([[1]]), case.ask([[2]])
        given_up.cancel()
        ending = asyncio.create_task(case.batcher.stop())
        await asyncio.sleep(0)
        case.gate.set()
        assert _rows(await wanted) == [[4]]
        await ending
        assert case.sessions[0].ran == [(1, 1), (1, 1)]

    asyncio.run(run())


def test_a_session_that_cannot_be_opened_says_so_to_whoever_starts_it() -> None:
    async def run() -> None:
        @contextmanager
        def absent() -> Iterator[Session]:
            raise BackendUnavailable("there is none")
            yield

        limits = {"smallest": 1, "largest": 1, "queue": 1}
        batcher = Batcher(absent, lambda session: None, name="x", workers=2, ran=lambda ran: None, **limits)
        with pytest.raises(BackendUnavailable, match="there is none"):
            await batcher.start()

    asyncio.run(run())
