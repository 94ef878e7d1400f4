"""Arrays in .npy and .npz files of others: nothing is unpickled, and nothing is read that cannot be what it says."""

import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy

from pipeline.data import spool
from pipeline.data.assembling import PAD
from pipeline.errors import DataError
from pipeline.tensors import Array

BOMB_BYTES, BOMB_RATIO = 1 << 30, 100
"""An array that is larger and was packed more than so many times is not unpacked: no data shrink like that."""


@dataclass(frozen=True)
class Header:
    """What an .npy file says that it holds, and where its numbers begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int

    @property
    def size(self) -> int:
        """How many bytes the numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize


def load(path: Path) -> Array:
    """Return the array of an .npy file: in memory where it is small, else mapped.

    Raises:
        DataError: it cannot be read, is damaged, or is not what it says.
    """
    with refusals(path, "numpy.save"), path.open("rb") as file:
        found = _header(file, path.stat().st_size, str(path))
        if found.size > spool.IN_MEMORY_BYTES:
            return spool.mapped(path, found.dtype, found.shape, found.start, found.order)
        return spool.unpacked(file, found.dtype, found.shape, found.order)


def members(path: Path) -> Iterator[tuple[str, Array]]:
    """Yield the name and the array of each member of an .npz file.

    An array is in memory where it is small, else mapped, from a temporary file where it is compressed.

    Raises:
        DataError: the file cannot be read, is damaged, holds a name twice, or what is no array or not what it says, or
            would unpack to what it cannot hold.
    """
    seen: set[str] = set()
    with refusals(path, "numpy.savez"), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in seen:
                raise DataError(f"{path} holds {name} twice", "Save it again with numpy.savez.")
            seen.add(name)
            yield name, _member(path, archive, member, name)


@contextmanager
def refusals(path: Path, save: str) -> Iterator[None]:
    """Turn whatever NumPy and zipfile raise of a damaged or hostile file into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # some twenty kinds, which change with versions
        kind = path.suffix or "array"
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} is not an {kind} file that can be read: {str(reason) or type(error).__name__}",
            f"Save it again with {save}.",
        ) from error


def _header(file: IO[bytes], length: int, what: str) -> Header:
    """Read the header of an .npy file that has `length` bytes, and hold it against that."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(
            f"{what} is of the .npy format {version}, which numbers do not need", "Save it again with NumPy."
        )
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote, or of odd text in one
        shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise DataError(f"{what} is an array of Python objects, which only unpickling could read: that runs code", PAD)
    found = Header(dtype, shape, "F" if fortran else "C", file.tell())
    if min(shape, default=0) < 0 or found.start + found.size != length:
        raise DataError(
            f"{what} says it is {dtype}{list(shape)}, {found.size:,} bytes, but has {length - found.start:,}",
            "The file is damaged, or made to do damage. Save it again with NumPy.",
        )
    return found


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Array:
    with archive.open(member) as file:
        found = _header(file, member.file_size, f"{path}: {name}")
        refuse_bomb(path, member, found.size)
        if member.compress_type == zipfile.ZIP_STORED and found.size > spool.IN_MEMORY_BYTES:
            begin = _start(path, member) + found.start
            return spool.mapped(path, found.dtype, found.shape, begin, found.order)
        array = spool.unpacked(file, found.dtype, found.shape, found.order)
        file.read(1)  # the end, where zipfile compares the checksum
        return array


def refuse_bomb(path: Path, member: zipfile.ZipInfo, size: int) -> None:
    """Raise DataError where a member of `size` bytes is packed as no data are."""
    if size > BOMB_BYTES and size > BOMB_RATIO * member.compress_size:
        name = member.filename.removesuffix(".npy")
        raise DataError(
            f"{path}: {name} would grow from {member.compress_size:,} to {size:,} bytes",
            "No data shrink like that: it is refused as a zip bomb. If it is yours, save it with numpy.savez.",
        )


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where a member's content begins: after its local header of 30 bytes, its name and what else is there."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2").tolist()
    return member.header_offset + 30 + int(name) + int(extra)
