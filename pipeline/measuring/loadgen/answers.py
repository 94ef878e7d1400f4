"""What LoadGen's queries are answered with: bytes of each sample, in one buffer that serves all queries."""

import math
from typing import Any

import numpy as np

from pipeline.tensors import Outputs, TensorSpec


class Answers:
    """The answers to a batch: the number of the best class (int64) of one output, or all outputs, one after the other.

    LoadGen reads a response while `QuerySamplesComplete` runs, so the same buffer can serve the next query. `layout`
    says which outputs are in an answer, without a batch; it is known, as `responses` are, after the first `put`.

    Args:
        response: LoadGen's `QuerySampleResponse`.
        largest: samples of a batch, at most.
        best_of: the output of which the best class is the answer; empty: all outputs are.
    """

    def __init__(self, response: Any, largest: int, best_of: str = "") -> None:
        self._response, self._largest, self._best_of = response, largest, best_of
        self._buffer = np.zeros((largest, 0), np.uint8)
        self.layout: tuple[TensorSpec, ...] = ()
        self.responses: list[Any] = []

    def put(self, found: Outputs, count: int) -> None:
        """Put the answers to the first `count` samples of a batch into the buffer."""
        if self._best_of:
            self._prepare(TensorSpec(self._best_of, (), np.dtype(np.int64)))
            scores = found[self._best_of][:count].reshape(count, -1)
            scores.argmax(axis=1, out=self._buffer.view(np.int64)[:count, 0])
            return
        self._prepare(*(TensorSpec(name, rows.shape[1:], rows.dtype) for name, rows in found.items()))
        start = 0
        for rows in found.values():
            one = np.ascontiguousarray(rows[:count]).reshape(count, -1).view(np.uint8)
            self._buffer[:count, start : start + one.shape[1]] = one
            start += one.shape[1]

    def _prepare(self, *layout: TensorSpec) -> None:
        if self.responses:
            return
        self.layout = layout
        size = sum(math.prod(size or 1 for size in one.shape) * one.dtype.itemsize for one in layout)
        self._buffer = np.zeros((self._largest, size), np.uint8)
        address = self._buffer.ctypes.data
        self.responses = [self._response(0, address + size * i, size) for i in range(self._largest)]
