"""Columns of Parquet files as inputs of a model: numbers, lists of them in any nesting, encoded pictures."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.artifacts.bundle import BundleInput
from pipeline.data import samples
from pipeline.data.pictures import Unreadable
from pipeline.errors import DataError
from pipeline.scoring import feeds
from pipeline.scoring.feeds import Values
from pipeline.tensors import Array, TensorSpec

PICTURE = "image"
"""The column of encoded pictures where none is called as the model's input."""


def name_of(one: BundleInput, schema: Any, alone: bool) -> str:
    """Return the column that holds an input; `alone`: the model has no other.

    Raises:
        DataError: there is none, or it cannot be this input.
    """
    name = one.name
    if name not in schema.names and alone and one.kind == "picture":
        name = PICTURE
    if name not in schema.names:
        raise DataError(
            f"no column is called {one.name}: there are {', '.join(schema.names)}",
            f"The model takes {one.words}. Name the column so.",
        )
    kind = _plain(schema.field(name).type)
    if not (_is_list(kind) or _is_number(kind) or (_is_bytes(kind) and one.kind == "picture")):
        raise DataError(f"column {name} is {kind}", f"The model takes {one.words}.")
    if _is_list(kind) and one.shape[1:].count(None) > 1:
        raise DataError(f"column {name} has no shape, and {one.name} has several sizes", "Give a folder of .npy files.")
    return name


def values(column: Any, one: BundleInput) -> Values:
    """Return what a column's rows hold for an input; `column` is a pyarrow array of a type that `name_of` let pass."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_struct(column.type):  # as Hugging Face's data sets keep pictures
        column = pc.struct_field(column, "bytes")
    if _is_bytes(column.type):
        return pictures(column.to_pylist(), one)
    return _numbers(column, one.spec)


def pictures(encoded: Sequence[bytes | None], one: BundleInput) -> Values:
    """Return encoded pictures as the model takes them, or why they cannot be read."""
    rows: list[Array | None] = []
    errors: dict[int, str] = {}
    for row, content in enumerate(encoded):
        found = None
        try:
            if content is None:
                raise Unreadable("null")
            found = samples.picture(io.BytesIO(content), one.spec, one.white or 255.0)
        except Unreadable as error:
            errors[row] = f"no picture that can be read: {error}"
        rows.append(found)
    return Values(rows, errors)


def _numbers(column: Any, spec: TensorSpec) -> Values:
    counts, flat, has_null = _flat(column)
    known = int(np.prod([size for size in spec.shape[1:] if size is not None]))
    dynamic = None in spec.shape[1:]
    wrong = (counts % known != 0) | (counts == 0) if dynamic and known else counts != known
    errors = {row: f"{counts[row]} numbers, not {known}" for row in np.flatnonzero(wrong).tolist()}
    errors |= dict.fromkeys(np.flatnonzero(has_null).tolist(), "a number is null")
    errors |= dict.fromkeys(np.flatnonzero(column.is_null()).tolist(), "null")
    if dynamic:
        ends = np.cumsum(counts)
        rows: list[Array | None] = []
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            one = None if row in errors else feeds.fitted(flat[None, end - count : end], spec)
            rows.append(one and one.rows[0])
            if one and one.errors:
                errors[row] = one.errors[0]
        return Values(rows, errors)
    if not wrong.any():
        found = feeds.fitted(flat.reshape(len(counts), known), spec)
        return Values(found.rows, {**found.errors, **errors})
    right = feeds.fitted(flat[np.repeat(~wrong, counts)].reshape(-1, known), spec)
    places = np.flatnonzero(~wrong)
    whole = np.zeros((len(counts), *feeds.sizes(spec, right.rows)), spec.dtype)
    whole[places] = right.rows
    return Values(whole, {int(places[row]): reason for row, reason in right.errors.items()} | errors)


def _flat(column: Any) -> tuple[NDArray[np.int64], Array, NDArray[np.bool_]]:
    """Return how many numbers each row has, all of them one after the other, and which rows have a null among them."""
    if not _is_list(column.type):
        numbers = column.fill_null(0) if column.null_count else column
        return np.ones(len(column), np.int64), numbers.to_numpy(zero_copy_only=False), np.asarray(column.is_null())
    lengths = np.asarray(pc.list_value_length(column).fill_null(0), np.int64)
    inner = pc.list_flatten(column)
    if not _is_list(inner.type) and not inner.null_count:
        return lengths, inner.to_numpy(zero_copy_only=False), np.zeros(len(column), bool)
    counts, flat, nulls = _flat(inner)
    ends = np.cumsum(lengths)
    return _sums(counts, ends, lengths), flat, _sums(nulls, ends, lengths) > 0


def _sums(parts: Array, ends: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of each row's parts, of which there are `lengths`, the last of them before `ends`."""
    before = np.concatenate([[0], np.cumsum(parts)])
    return np.asarray(before[ends] - before[ends - lengths], np.int64)


def _plain(kind: Any) -> Any:
    """Return the type of what `values` reads."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return kind.field("bytes").type
    return kind


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
