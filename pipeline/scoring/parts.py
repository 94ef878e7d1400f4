"""The output: a file for each piece, which is there whole or not at all; and what has been tried so far."""

import os
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.scoring.plan import Piece

BUFFER_BYTES = 1 << 26
"""Rows are written when so much has gathered: what a process keeps of its piece."""

TRIES = "_tries"
CAREFUL_FROM = 2
"""After so many deaths of processes in a piece, its rows are scored one by one."""
DEATHS_OF_A_ROW = 2
"""A row that was alone in a process when it died, so often, is given up."""
MOST_GIVEN_UP = 8
"""Rows of a piece that are given up, and deaths outside any row: where there are more, something else is wrong."""


class Parts:
    """The files of a run's folder. A part tells which plan it is of, by the plan's digest."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.folder, self._plan = folder, plan

    def path(self, piece: Piece) -> Path:
        """Return where a piece's answers are, once it is done."""
        return self.folder / f"part-{piece.number:06d}.parquet"

    def done(self, piece: Piece) -> bool:
        """Tell whether a piece is done: its file is there, whole, of this plan and with all its rows."""
        try:
            found = pq.read_metadata(self.path(piece))
        except (OSError, pa.ArrowException):
            return False
        return found.num_rows == piece.rows and (found.metadata or {}).get(b"plan") == self._plan.encode()

    @contextmanager
    def writing(self, piece: Piece, schema: Any) -> Iterator["Writer"]:
        """Write a piece's file for the time of a `with` block; it takes its place when all of it is on the disk."""
        path = self.path(piece)
        aside = path.with_name(f"_{path.name}.{platform.node()}.{os.getpid()}.tmp")
        try:
            with aside.open("wb") as file:
                with pq.ParquetWriter(file, schema.with_metadata({"plan": self._plan})) as writer:
                    buffered = Writer(writer)
                    yield buffered
                    buffered.flush()
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what killed processes have left: no other run may be writing here."""
        for path in self.folder.glob("_part-*.tmp"):
            path.unlink(missing_ok=True)

    def forget_tries(self) -> None:
        """Forget what was tried: the processes were ended, and have not died."""
        for path in self.folder.glob(f"{TRIES}/*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def trying(self, piece: Piece) -> Iterator["Try"]:
        """Keep, for the time of a `with` block, a file by which the next process sees that this one died in it.

        Raises:
            DataError: too many processes have died of this piece.
        """
        path = self.folder / TRIES / self.path(piece).stem
        path.parent.mkdir(exist_ok=True)
        one = Try(path)
        try:
            if one.given_up is None:
                raise DataError(
                    f"processes die of rows {piece.start:,} to {piece.stop:,} of file {piece.file}, "
                    f"{one.deaths} until now: see {self.folder}/_plan.json",
                    "Look at these rows and at the memory; what is done stays, and the same command goes on.",
                )
            yield one
        except Exception:  # no death: the next one may do as if this had not been
            path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


class Try:
    """A file that has a line for each time that a piece was begun, and for each row that was begun alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="ascii").split() if path.exists() else []
        self.deaths = lines.count("begun")
        last = [before for before, line in pairwise(lines) if line == "begun"] + lines[-1:]
        alone = Counter(int(line) for line in last if line != "begun")
        found = {row for row, count in alone.items() if count >= DEATHS_OF_A_ROW}
        elsewhere = self.deaths - alone.total() - CAREFUL_FROM
        self.given_up = found if len(found) <= MOST_GIVEN_UP and elsewhere <= MOST_GIVEN_UP else None
        self.careful = self.deaths >= CAREFUL_FROM
        self._add("begun")

    def row(self, row: int) -> None:
        """Say that a row is begun alone."""
        self._add(str(row))

    def _add(self, line: str) -> None:
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{line}\n")


class Writer:
    """Writes tables into a Parquet file, many of them at once."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._tables: list[Any] = []
        self._bytes = 0

    def write(self, table: Any) -> None:
        """Write a table, now or with later ones."""
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        if self._tables:
            self._writer.write_table(pa.concat_tables(self._tables).combine_chunks())
            self._tables, self._bytes = [], 0
