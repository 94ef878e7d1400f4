"""A folder with a file for each sample: pictures, .npy, or .npz for a model of several inputs."""

import hashlib
import os
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artifacts.bundle import BundleInput
from pipeline.data import samples
from pipeline.data.pictures import SUFFIXES as PICTURES
from pipeline.errors import DataError
from pipeline.scoring import feeds
from pipeline.scoring.feeds import Samples, Values
from pipeline.scoring.plan import InputFile, Piece
from pipeline.scoring.sources import IdOrigin
from pipeline.scoring.sources.parquet import Reader

LISTING = "_listing.parquet"
"""In OUTPUT: the paths of all samples, so that no process has to hold them, however many there are."""

AT_ONCE = 1 << 16
"""Paths that are written together."""


@dataclass
class SingleFiles:
    """Files below `root`, a sample each, in the order of the listing."""

    id_origin: ClassVar[IdOrigin] = "path"

    root: Path
    listing: Path
    listed: InputFile
    inputs: tuple[BundleInput, ...]
    kept: Any
    remark: str

    def files(self) -> tuple[InputFile, ...]:
        """See Source: one for all of them."""
        return (self.listed,)

    def near(self, piece: Piece) -> Hashable:
        """See Source: any file is as near as another."""
        return piece.number

    def tables(self, piece: Piece, size: int) -> Iterator[Any]:
        """See Source."""
        starts = range(0, max(self.listed.rows, 1), AT_ONCE)
        reader = Reader(self.listing, size, piece.start, starts, self.kept.names)
        reader.skip_to(piece.start)
        for start in range(piece.start, piece.stop, size):
            yield reader.take(min(size, piece.stop - start))

    def samples(self, table: Any) -> Samples:
        """See Source."""
        whites = {one.name: one.white or 255.0 for one in self.inputs}
        specs = [one.spec for one in self.inputs]
        rows: dict[str, list[Any]] = {spec.name: [] for spec in specs}
        errors = {}
        for place, name in enumerate(table[0].to_pylist()):
            try:
                feed = samples.read(self.root / name, specs, lambda spec: whites[spec.name])
            except (DataError, OSError) as error:
                errors[place] = _reason(error, self.root / name)
                feed = {spec.name: None for spec in specs}  # type: ignore[misc]
            for spec in specs:
                rows[spec.name].append(None if place in errors else feed[spec.name][0])
        found = feeds.together({name: Values(kept, errors) for name, kept in rows.items()}, len(table))
        return found._replace(errors=errors)


def _reason(error: DataError | OSError, path: Path) -> str:
    message = error.message if isinstance(error, DataError) else f"cannot be read: {error}"
    return message.removeprefix(f"{path} ").splitlines()[0]


def find(source: Path, target: Path, inputs: tuple[BundleInput, ...], id_column: str) -> SingleFiles:
    """List a folder's samples and return them.

    Raises:
        DataError: there are none, or a folder or its name cannot be read.
    """
    picture = len(inputs) == 1 and inputs[0].kind == "picture"
    suffixes = (".npz",) if len(inputs) > 1 else (".npy", ".npz", *(PICTURES if picture else ()))
    listing = target / LISTING
    schema = pa.schema([pa.field(id_column, pa.string())])
    listed, others = _list(source, listing, suffixes, schema)
    if not listed.rows:
        raise DataError(
            f"{source} has no sample: no Parquet file, and none that ends in {', '.join(suffixes)}",
            f"The model takes {'; '.join(one.words for one in inputs)}.",
        )
    remark = f"{others:,} other files are left out" if others else ""
    return SingleFiles(source, listing, listed, inputs, schema, remark)


def _list(source: Path, listing: Path, suffixes: tuple[str, ...], schema: Any) -> tuple[InputFile, int]:
    """Write the listing; return what the plan keeps of it, and how many files are none of these."""
    digest, rows, size, others = hashlib.sha256(), 0, 0, 0
    aside = listing.with_suffix(".tmp")
    names: list[str] = []
    with pq.ParquetWriter(aside, schema) as writer:
        for path in _walk(source):
            name = path.relative_to(source).as_posix()
            if path.suffix.lower() not in suffixes:
                others += 1
                continue
            about = path.stat()
            try:
                digest.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
            except UnicodeEncodeError as error:
                raise DataError(f"{name!r} is no name in UTF-8, and cannot be an id", "Rename the file.") from error
            rows, size = rows + 1, size + about.st_size
            names.append(name)
            if len(names) == AT_ONCE:
                writer.write_table(pa.table([names], schema=schema))
                names = []
        if names:
            writer.write_table(pa.table([names], schema=schema))
    aside.replace(listing)
    found = InputFile(name="", rows=rows, bytes=size, modified_ns=0, sha256=digest.hexdigest())
    return found, others


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files, always in the same order; what begins with a dot is left out."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(place, name) for name in sorted(files) if name[0] != ".")
