"""Whether a column of ids is fit to be one: no null, and no value twice. Any number of rows, in bounded memory."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import DataError

AT_ONCE = 1 << 24
"""Ids that are compared at once: of more rows, the column is read several times, for another share of the ids."""


def unfit(files: Sequence[Path], column: str, at_once: int = AT_ONCE) -> str:
    """Return why the values of a column in Parquet files are no ids, in words that follow its name; empty: they are.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        rows = sum(pq.read_metadata(path).num_rows for path in files)
        shares = max(1, -(-rows // at_once))
        for share in range(shares):
            keys = [mine for batch in _batches(files, column) for mine in _keys(batch, share, shares)]
            found = np.sort(np.concatenate(keys)) if keys else np.zeros(0, "S1")
            if len(found) and (found[1:] == found[:-1]).any():
                return "has a value twice"
    except _Null:
        return "has a null"
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"column {column} cannot be read: {error}", "Write the input again.") from error
    return ""


class _Null(Exception):  # noqa: N818  ends the search
    pass


def _batches(files: Iterable[Path], column: str) -> Iterator[Any]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[column]):
                if batch.column(0).null_count:
                    raise _Null
                yield batch.column(0)


def _keys(values: Any, share: int, shares: int) -> Iterator[NDArray[Any]]:
    """Yield what stands for those of the values that belong to a share of all: whole numbers, or digests of others."""
    if pa.types.is_integer(values.type):
        numbers = values.to_numpy()
        yield numbers[numbers % shares == share] if shares > 1 else numbers
        return
    digests = np.array([hashlib.blake2b(_bytes(one), digest_size=16).digest() for one in values.to_pylist()], "S16")
    if shares > 1:
        digests = digests[digests.view(np.uint8).reshape(-1, 16)[:, 0].astype(np.int64) % shares == share]
    yield digests


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()
