"""Parquet files: a column for each input of the model; the others are carried over."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import listing
from pipeline.artifacts.bundle import BundleInput
from pipeline.errors import DataError
from pipeline.scoring import columns, feeds, ids
from pipeline.scoring.feeds import Samples
from pipeline.scoring.plan import InputFile, Piece
from pipeline.scoring.sources import IdOrigin

SUFFIX = ".parquet"
LEAST_ROWS = 64
"""Rows that are read at once, at least."""


@dataclass
class ParquetRows:
    """Rows of Parquet files of one schema. `groups` has for each file the numbers of its row groups' first rows."""

    root: Path
    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]
    inputs: tuple[BundleInput, ...]
    columns: Mapping[str, str]
    kept: Any
    id_origin: IdOrigin
    remark: str = ""
    _reader: "Reader | None" = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to another process: it opens the files itself."""
        return {name: value for name, value in self.__dict__.items() if name[0] != "_"}

    def files(self) -> tuple[InputFile, ...]:
        """See Source."""
        found = []
        for name, rows in zip(self.names, self.rows, strict=True):
            about = (self.root / name).stat()
            found.append(InputFile(name=name, rows=rows, bytes=about.st_size, modified_ns=about.st_mtime_ns))
        return tuple(found)

    def near(self, piece: Piece) -> Hashable:
        """See Source: pieces of one row group, which can only be read from its beginning."""
        return piece.file, int(np.searchsorted(self.groups[piece.file], piece.start, "right"))

    def tables(self, piece: Piece, size: int) -> Iterator[Any]:
        """See Source."""
        path = self.root / self.names[piece.file]
        named = self.names[piece.file] or self.root.name
        reader = self._reader
        if reader is None or not reader.reaches(path, size, piece.start, self.groups[piece.file]):
            reader = self._reader = Reader(path, size, piece.start, self.groups[piece.file], self._read)
        reader.skip_to(piece.start)
        for start in range(piece.start, piece.stop, size):
            table = reader.take(min(size, piece.stop - start))
            if self.id_origin != "column":
                numbered = pa.array([f"{named}:{row}" for row in range(start, start + len(table))], pa.string())
                table = table.append_column(self.kept.names[0], numbered)
            yield table

    def samples(self, table: Any) -> Samples:
        """See Source."""
        found = {one.name: columns.values(table[self.columns[one.name]], one) for one in self.inputs}
        return feeds.together(found, len(table))

    @cached_property
    def _read(self) -> list[str]:
        made = self.kept.names[:1] if self.id_origin != "column" else []
        return [name for name in dict.fromkeys((*self.kept.names, *self.columns.values())) if name not in made]


class Reader:
    """A Parquet file that is read forwards: a row group has no way in but its beginning."""

    def __init__(self, path: Path, size: int, start: int, groups: Sequence[int], columns: Sequence[str]) -> None:
        self.path, self._size = path, size
        first = max(int(np.searchsorted(groups, start, "right")) - 1, 0)
        self._position = groups[first] if groups else 0
        self._rest: list[Any] = []
        try:
            # Not memory-mapped: a file cut short meanwhile would end the process. Nor a column of a row group at once.
            file = pq.ParquetFile(path, buffer_size=1 << 20)
            self._batches = file.iter_batches(
                max(size, LEAST_ROWS),
                row_groups=list(range(first, file.num_row_groups)),
                columns=list(columns),
                use_threads=False,
            )
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from error

    def reaches(self, path: Path, size: int, start: int, groups: Sequence[int]) -> bool:
        """Tell whether reading on is the shortest way to a row."""
        first = groups[max(int(np.searchsorted(groups, start, "right")) - 1, 0)]
        return path == self.path and size == self._size and first <= self._position <= start

    def skip_to(self, row: int) -> None:
        """Read on to a row."""
        while self._position < row:
            self.take(min(row - self._position, self._size))

    def take(self, count: int) -> Any:
        """Return the next `count` rows, a pyarrow table.

        Raises:
            DataError: the file is damaged, or ends before.
        """
        found, lacking = [], count
        while lacking:
            try:
                batch = self._rest.pop() if self._rest else next(self._batches)
            except StopIteration:
                raise DataError(f"{self.path} has fewer rows than it says", "Write it again.") from None
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(self.path, error) from error
            part = batch.slice(0, lacking)
            if len(part) < len(batch):
                self._rest.append(batch.slice(len(part)))
            found.append(part)
            lacking -= len(part)
        self._position += count
        return pa.Table.from_batches(found)


def files(source: Path) -> tuple[str, ...]:
    """Return the names, below `source`, of the Parquet files in a folder, in order; of a file the empty name.

    Raises:
        DataError: a folder cannot be listed.
    """
    if source.is_file():
        return ("",)
    try:
        found = [path.relative_to(source) for path in listing.files(source) if path.suffix == SUFFIX]
    except OSError as error:
        raise _unreadable(source, error) from error
    return tuple(sorted(path.as_posix() for path in found if not any(part[0] in "._" for part in path.parts)))


def find(source: Path, names: Sequence[str], inputs: Sequence[BundleInput], id_column: str) -> ParquetRows:
    """Return the rows of Parquet files.

    Raises:
        DataError: a file cannot be read, has other columns than the first, or none that the model takes.
    """
    schema, groups, rows = _looked_at(source, names)
    found = {one.name: columns.name_of(one, schema, len(inputs) == 1) for one in inputs}
    carried = [one.remove_metadata() for one in schema if one.name not in found.values()]
    remark, identity = "", pa.field(id_column, pa.string())
    origin: IdOrigin = "file and row"
    if id_column in schema.names:
        if id_column in found.values():
            why = "is an input of the model"
        else:
            why = ids.unfit([source / name for name in names], id_column)
        if why:
            remark = f"the ids are made of file and row: column {id_column} {why}"
            identity = pa.field(f"row_{id_column}", pa.string())
        else:
            origin = "column"
            identity = carried.pop([one.name for one in carried].index(id_column))
    if identity.name in schema.names and origin != "column":
        raise DataError(f"there is a column {identity.name}, which ids are written to", "Rename it.")
    kept = pa.schema([identity, *carried])
    return ParquetRows(source, tuple(names), groups, rows, tuple(inputs), found, kept, origin, remark)


def _looked_at(source: Path, names: Sequence[str]) -> tuple[Any, tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return the schema of all files, the first row of each one's row groups, and how many rows they have."""
    first, groups, rows = None, [], []
    for name in names:
        path = source / name
        try:
            with pq.ParquetFile(path) as file:
                schema, about = file.schema_arrow.remove_metadata(), file.metadata
                sizes = [about.row_group(index).num_rows for index in range(about.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from error
        if first is None:
            first = schema
        elif not schema.equals(first):
            raise DataError(f"{path} has other columns than {source / names[0]}", "Score them one after the other.")
        groups.append(tuple(int(start) for start in np.cumsum([0, *sizes])[:-1]) or (0,))
        rows.append(about.num_rows)
    return first, tuple(groups), tuple(rows)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read: {error}", "Write it again, or take it out of the input.")
