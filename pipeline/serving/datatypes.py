"""The protocol's names of NumPy's types, and tensors as bytes, as JSON and as strings."""

import struct
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from pipeline.serving.refusals import Refused, Why, invalid
from pipeline.tensors import Array

NAMES: dict[np.dtype[Any], str] = {
    np.dtype(np.bool_): "BOOL",
    **{np.dtype(f"int{bits}"): f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{np.dtype(f"uint{bits}"): f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{np.dtype(f"float{bits}"): f"FP{bits}" for bits in (16, 32, 64)},
    np.dtype(ml_dtypes.bfloat16): "BF16",
}

_KINDS = {"b": "b", "i": "iu", "u": "iu"}
"""Of which kinds numbers in JSON may be for a type of a kind; of any for a float."""


def from_json(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> Array:
    """Return the tensor that a JSON list, nested or flat, holds.

    Raises:
        Refused: it holds anything but numbers, too many or too few of them, or some that the type has no room for.
    """
    if not isinstance(data, list):
        raise invalid(f"input {name}: data is no list")
    try:
        found = np.asarray(data)
        if found.dtype.kind not in _KINDS.get(dtype.kind, "iufb"):
            raise invalid(f"input {name}: data holds something else than {NAMES[dtype]}")
        if dtype.kind in "iu" and found.size:
            limits = np.iinfo(dtype)
            if int(found.min()) < limits.min or int(found.max()) > limits.max:
                raise invalid(f"input {name}: data holds numbers that {NAMES[dtype]} has no room for")
        return found.astype(dtype, copy=False).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid(f"input {name}: data is not {NAMES[dtype]} {list(shape)}") from error


def to_json(rows: Array, name: str) -> list[Any]:
    """Return a tensor as a flat list.

    Raises:
        Refused: it holds NaN or an infinity, of which JSON knows nothing.
    """
    if rows.dtype.kind not in "biu":
        rows = rows.astype(np.float64 if rows.dtype == np.float64 else np.float32, copy=False)
        if not np.isfinite(rows).all():
            raise Refused(Why.BROKEN, f"output {name} holds NaN or infinity, which JSON cannot say: ask for it binary")
    listed: list[Any] = rows.ravel().tolist()
    return listed


def classified(rows: Array, count: int, classes: Sequence[str]) -> list[list[bytes]]:
    """Return the `count` largest values of each sample, each as `value:index` or `value:index:class`."""
    flat = rows.reshape(len(rows), -1)
    count = min(count, flat.shape[1])
    found = []
    for row in flat:
        order = np.argsort(-row.astype(np.float64), kind="stable")[:count]
        named = (f":{classes[place]}" if place < len(classes) else "" for place in order)
        found.append([f"{row[place]:f}:{place}{name}".encode() for place, name in zip(order, named, strict=True)])
    return found


def packed(words: Sequence[bytes]) -> bytes:
    """Return strings as the protocol's BYTES: each after its length, 4 bytes, little-endian."""
    return b"".join(struct.pack("<I", len(word)) + word for word in words)
