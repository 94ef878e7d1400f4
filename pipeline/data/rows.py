"""The samples of one input or target, which may be larger than memory, and reading them a few at a time."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.tensors import Array, Rows

BATCH_BYTES = 64 << 20
"""What is read at a time where all samples are looked at."""

Which = slice | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Taken:
    """Some samples of others, by their indices, read when asked for."""

    rows: Rows
    indices: NDArray[np.integer[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of samples, then the shape of one."""
        return (len(self.indices), *self.rows.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of an element."""
        return self.rows.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, which: Which) -> Array:
        return self.rows[self.indices[which]]


def batches(*columns: Rows) -> Iterator[slice]:
    """Yield slices of all samples, of as many samples at a time as hold `BATCH_BYTES` together."""
    size = max(1, BATCH_BYTES // max(1, sum(sample_bytes(rows) for rows in columns)))
    return (slice(start, min(start + size, len(columns[0]))) for start in range(0, len(columns[0]), size))


def sample_bytes(rows: Rows) -> int:
    """Return the bytes of one sample."""
    return math.prod(rows.shape[1:]) * rows.dtype.itemsize


def largest(columns: Iterable[Rows]) -> int:
    """Return the largest number in columns of an integer type."""
    return max(int(np.max(rows[which])) for rows in columns for which in batches(rows))


def is_label(rows: Rows) -> bool:
    """Tell whether a target is one integer for each sample, as the number of a class is."""
    return rows.dtype.kind in "biu" and rows.shape[1:] in ((), (1,))
