"""Where rows come from: Parquet files, a folder with a file for each sample, or arrays of rows."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.artifacts.bundle import BundleRecord
from pipeline.errors import DataError
from pipeline.scoring.feeds import Samples
from pipeline.scoring.plan import InputFile, Piece

IdOrigin = Literal["column", "file and row", "path", "row"]


class Source(Protocol):
    """Rows of an input. It is sent to every process that scores, and opens its files there."""

    @property
    def kept(self) -> Any:
        """The pyarrow schema of what is put down of each row beside its answers: the id, then what is carried over."""
        ...

    @property
    def id_origin(self) -> IdOrigin:
        """Where ids come from."""
        ...

    @property
    def remark(self) -> str:
        """What the user has to know of how the input is read; empty: nothing."""
        ...

    def files(self) -> tuple[InputFile, ...]:
        """Return the files that rows are in."""
        ...

    def near(self, piece: Piece) -> Hashable:
        """Return what is equal for pieces that are read faster one after the other by the same process."""
        ...

    def tables(self, piece: Piece, size: int) -> Iterator[Any]:
        """Yield the rows of a piece as pyarrow tables of `size` rows, the last one smaller, none of them decoded.

        Raises:
            DataError: the file cannot be read.
        """
        ...

    def samples(self, table: Any) -> Samples:
        """Return the rows of such a table as the model takes them. What is wrong with a row is its own."""
        ...


def find(source: Path, target: Path, record: BundleRecord, id_column: str) -> Source:
    """Return the rows of INPUT.

    Args:
        source: INPUT.
        target: OUTPUT, where what is derived from the input may be kept while it is scored.
        record: of the bundle: what the model takes.
        id_column: `score.id_column`.

    Raises:
        DataError: there is nothing there, or nothing that the model takes.
    """
    from pipeline.scoring.sources import arrays, parquet, single

    if not source.exists():
        raise DataError(f"{source} does not exist", "Name a Parquet file, an .npy or .npz file, or a folder.")
    if source.is_file() and source.suffix in arrays.SUFFIXES:
        return arrays.find(source, target, record.inputs, id_column)
    tables = parquet.files(source)
    if source.is_file() or tables:
        return parquet.find(source, tables, record.inputs, id_column)
    return single.find(source, target, record.inputs, id_column)
