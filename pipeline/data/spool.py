"""Data on the disk instead of in memory: files without a name, which are gone with the process, mapped into it."""

import math
import shutil
import tempfile
from typing import IO, Any, Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.tensors import Array

IN_MEMORY_BYTES = 64 << 20
"""What is larger is mapped from its file."""

RESERVE_BYTES = 1 << 30
"""What is left free on the disk."""

CHUNK_BYTES = 1 << 20


def mapped(
    file: Any, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int = 0, order: Literal["C", "F"] = "C"
) -> Array:
    """Return an array [samples, …] that the system reads from a file, by path or open, as it is asked for."""
    if not math.prod(shape):
        return np.empty(shape, dtype)  # nothing cannot be mapped
    return np.memmap(file, dtype, "r", offset, shape, order)


def unpacked(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"] = "C") -> Array:
    """Return what can only be read in order, as a compressed file: in memory where it is small.

    Raises:
        DataError: the disk is too small.
        EOFError: the file ends before.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= IN_MEMORY_BYTES:
        content = file.read(size)
        if len(content) < size:
            raise EOFError(f"it ends after {len(content):,} of {size:,} bytes")
        return np.frombuffer(content, dtype).reshape(shape, order=order)
    need(size)
    with tempfile.TemporaryFile() as copy:
        while copy.tell() < size and (chunk := file.read(min(CHUNK_BYTES, size - copy.tell()))):
            copy.write(chunk)
        if copy.tell() < size:
            raise EOFError(f"it ends after {copy.tell():,} of {size:,} bytes")
        copy.flush()
        return mapped(copy, dtype, shape, order=order)


def need(size: int) -> None:
    """Raise DataError unless so many bytes can be written to the temporary folder."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free - RESERVE_BYTES:
        raise DataError(
            f"the data need {size / 2**30:,.1f} GiB of temporary files, and {folder} has {free / 2**30:,.1f} GiB free",
            "Set TMPDIR to a folder on a larger disk, or save the data uncompressed (numpy.savez): they need no copy.",
        )


class Column:
    """Samples that are appended to an open file a batch at a time, and read when all are there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        self.samples = 0

    def add(self, batch: Array) -> None:
        """Append [samples, …].

        Raises:
            ValueError: a batch is of another type or shape than those before it.
            DataError: the disk is too small.
        """
        if self._dtype is None:
            self._dtype, self._shape = batch.dtype, batch.shape[1:]
        if (batch.dtype, batch.shape[1:]) != (self._dtype, self._shape):
            raise ValueError(
                f"one batch has samples {self._dtype}{list(self._shape)} and another {batch.dtype}"
                f"{list(batch.shape[1:])}: pad all to one shape"
            )
        need(batch.nbytes)
        self._file.write(np.ascontiguousarray(batch).data)
        self.samples += len(batch)

    def rows(self) -> Array:
        """Return all that were appended, [samples, …]; the file may be closed then."""
        assert self._dtype is not None
        self._file.flush()
        return mapped(self._file, self._dtype, (self.samples, *self._shape))
