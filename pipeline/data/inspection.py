"""Looking at every sample of a split once: is each of its numbers one, and by which digests it is recognised again."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.rows import Taken, batches
from pipeline.errors import DataError
from pipeline.tensors import Array, Rows


class Seen(NamedTuple):
    """What one pass over a split found."""

    sha256: str
    """Over names, shapes, types, inputs and targets."""
    samples: NDArray[np.uint8]
    """[samples, 32]: the SHA-256 of each sample's inputs."""


def look(inputs: Mapping[str, Rows], targets: Mapping[str, Rows], where: str) -> Seen:
    """Read all samples, `BATCH_BYTES` at a time; `where` says in an error which split this is.

    Raises:
        DataError: an input or target is NaN or Inf somewhere.
    """
    columns = {**{("input", name): rows for name, rows in inputs.items()}, **_targets(targets)}
    kinds = [(what, name, rows.shape, rows.dtype.name) for (what, name), rows in columns.items()]
    running = hashlib.sha256(repr(kinds).encode())
    samples = np.empty((len(next(iter(inputs.values()))), 32), np.uint8)
    for which in batches(*columns.values()):
        found = {key: np.ascontiguousarray(rows[which]) for key, rows in columns.items()}
        for (what, name), array in found.items():
            _refuse_nan(array, which.start, columns[what, name], f"{what} {name}".strip(), where)
        fed = [_bytes(array) for (what, _), array in found.items() if what == "input"]
        for i in range(which.stop - which.start):
            one = hashlib.sha256()
            for rows in fed:
                one.update(rows[i].data)
            samples[which.start + i] = np.frombuffer(one.digest(), np.uint8)
        running.update(samples[which].data)
        for (what, _), array in found.items():
            if what == "target":
                running.update(_bytes(array).data)
    return Seen(running.hexdigest(), samples)


def _targets(targets: Mapping[str, Rows]) -> dict[tuple[str, str], Rows]:
    return {("target", name): rows for name, rows in targets.items()}


def _bytes(array: Array) -> NDArray[np.uint8]:
    return array.reshape(len(array), -1).view(np.uint8)


def _refuse_nan(array: Array, start: int, rows: Rows, what: str, where: str) -> None:
    if array.dtype.kind not in "fV" or np.isfinite(array).all():  # NumPy calls bfloat16's kind V
        return
    flat = array.reshape(len(array), -1)
    at = int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0])
    value = flat[at][~np.isfinite(flat[at])][0]
    raise DataError(
        f"{where}: the {what} holds {value} as {array.dtype}, in sample {start + at}{_source(rows, start + at)}",
        "Leave such samples out, or put a number in their place.",
    )


def _source(rows: Rows, index: int) -> str:
    """Return which sample of the source this is, where the split was made here."""
    inner = getattr(rows, "rows", None)
    if inner is None:
        return ""
    if isinstance(rows, Taken):
        index = int(rows.indices[index])
        return _source(inner, index) or f" (sample {index} of the source)"
    return _source(inner, index)
