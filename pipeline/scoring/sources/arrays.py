"""Arrays of rows: an .npy [rows, …], mapped into memory, or an .npz with one for each input."""

import shutil
import zipfile
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline.artifacts.bundle import BundleInput
from pipeline.data import npy
from pipeline.errors import DataError
from pipeline.scoring import feeds
from pipeline.scoring.feeds import Samples
from pipeline.scoring.plan import InputFile, Piece
from pipeline.scoring.sources import IdOrigin
from pipeline.tensors import Array, TensorSpec

SUFFIXES = (".npy", ".npz")
UNPACKED = "_unpacked"
"""Where in OUTPUT the arrays of an .npz lie while they are scored: only a file of their own can be mapped."""


@dataclass
class ArrayRows:
    """Rows of arrays in files of their own, one for each input."""

    id_origin: ClassVar[IdOrigin] = "row"
    remark: ClassVar[str] = ""

    source: Path
    paths: dict[str, Path]
    inputs: tuple[BundleInput, ...]
    kept: Any

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to another process: it opens the files itself."""
        return {name: value for name, value in self.__dict__.items() if name[0] != "_"}

    def files(self) -> tuple[InputFile, ...]:
        """See Source."""
        about, rows = self.source.stat(), len(next(iter(self._arrays.values())))
        return (InputFile(name="", rows=rows, bytes=about.st_size, modified_ns=about.st_mtime_ns),)

    def near(self, piece: Piece) -> Hashable:
        """See Source: any row is as near as another."""
        return piece.number

    def tables(self, piece: Piece, size: int) -> Iterator[Any]:
        """See Source."""
        for start in range(piece.start, piece.stop, size):
            yield pa.table([pa.array(range(start, min(start + size, piece.stop)), pa.int64())], schema=self.kept)

    def samples(self, table: Any) -> Samples:
        """See Source."""
        first = table[0][0].as_py()
        rows = slice(first, first + len(table))
        found = {one.name: feeds.fitted(np.array(self._arrays[one.name][rows]), one.spec) for one in self.inputs}
        return feeds.together(found, len(table))

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        return {name: _mapped(path) for name, path in self.paths.items()}


def find(source: Path, target: Path, inputs: tuple[BundleInput, ...], id_column: str) -> ArrayRows:
    """Return the rows of an .npy or .npz file.

    Raises:
        DataError: it cannot be read, or its arrays are not what the model takes.
    """
    if source.suffix == ".npy":
        if len(inputs) > 1:
            raise DataError(
                f"{source} is one array, and the model takes {', '.join(one.words for one in inputs)}",
                "Give an .npz with these arrays, or Parquet files.",
            )
        paths = {inputs[0].name: source}
    else:
        paths = _unpacked(source, target / UNPACKED, inputs)
    found = ArrayRows(source, paths, inputs, pa.schema([pa.field(id_column, pa.int64())]))
    lengths = set()
    for one in inputs:
        array = _mapped(paths[one.name])
        lengths.add(len(array))
        _check(source, array, one)
    if len(lengths) > 1:
        raise DataError(f"{source}: its arrays have {sorted(lengths)} rows", "All must have the same.")
    return found


def _check(source: Path, array: Array, one: BundleInput) -> None:
    spec = TensorSpec(one.name, (None, *one.shape[1:]), np.dtype(one.dtype))
    shape = array.shape
    if not spec.fits(shape) and spec.shape[-1:] == (1,):
        shape = (*shape, 1)  # the last axis of one channel may lack
    if array.dtype.kind not in "biuf" or not spec.fits(shape):
        raise DataError(f"{source} holds {array.dtype} {list(array.shape)}", f"The model takes rows of {one.words}.")


def _mapped(path: Path) -> Array:
    array = npy.load(path)
    if not array.ndim:
        raise DataError(f"{path} is one number and no array of rows")
    return array


def _unpacked(source: Path, folder: Path, inputs: tuple[BundleInput, ...]) -> dict[str, Path]:
    """Write each array of an .npz into a file of its own, but for those that are there; return these by input."""
    folder.mkdir(exist_ok=True)
    paths = {one.name: folder / f"{index}.npy" for index, one in enumerate(inputs)}
    with npy.refusals(source, "numpy.savez"), zipfile.ZipFile(source) as packed:
        if missing := [one.name for one in inputs if f"{one.name}.npy" not in packed.namelist()]:
            raise DataError(f"{source} has no array {missing[0]}", f"It has {', '.join(packed.namelist())}.")
        for name, path in paths.items():
            about = packed.getinfo(f"{name}.npy")
            if path.is_file() and path.stat().st_size == about.file_size:
                continue
            aside = path.with_suffix(".tmp")
            with packed.open(about) as read, aside.open("wb") as written:
                shutil.copyfileobj(read, written, 1 << 20)
            aside.replace(path)
    return paths
