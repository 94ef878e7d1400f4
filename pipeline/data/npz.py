"""An .npz file: `x` and `y`, or those of each split as in Keras's own mnist.npz, by name where there are several."""

import lzma
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy

from pipeline.data import spool
from pipeline.data.assembling import PAD, WHOLE, assemble
from pipeline.data.splits import THE_ONLY, Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Array, Rows

KEY = re.compile(r"(x|y)(?:_(train|validation|test))?(?:/(.+))?")
"""The name of an array: input or target, split, and the name of the model's input or output."""

NAMES = (
    "Name the arrays x and y; or x_train, y_train, x_test, y_test and, if you like, x_validation, y_validation; for "
    "several inputs or outputs x/<input>, y/<output>, x_train/<input> and so on. y may be missing."
)

BOMB_BYTES, BOMB_RATIO = 1 << 30, 100
"""An array that is larger and was packed more than so many times is not unpacked: no data shrink like that."""

DAMAGED = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What NumPy and zipfile raise of a file that is damaged, encrypted or packed in another way."""


def load(source: str) -> Dataset:
    """Return the data in an .npz file. Arrays larger than memory are mapped; nothing is ever unpickled.

    Raises:
        DataError: the file is damaged or would unpack to what it cannot hold, or its arrays are not named or not shaped
            as they should be.
    """
    path = Path(source)
    parts: dict[str, tuple[dict[str, Rows], dict[str, Rows]]] = {}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                found = KEY.fullmatch(key)
                if found is None:
                    raise DataError(f"data.source {source} holds an array named {key!r}", NAMES)
                kind, name, tensor = found[1], found[2] or WHOLE, found[3] or THE_ONLY
                columns = parts.setdefault(name, ({}, {}))[kind == "y"]
                if tensor in columns:
                    raise DataError(f"data.source {source} holds {key} twice", "Save it again with numpy.savez.")
                columns[tensor] = _read(path, archive, member, key)
    except DAMAGED as error:
        raise DataError(
            f"data.source {source} is not an .npz file that can be read: {error or type(error).__name__}",
            "Save it again with numpy.savez.",
        ) from error
    if not parts:
        raise DataError(f"data.source {source} holds no arrays", NAMES)
    for name, (inputs, _) in parts.items():
        if not inputs:
            raise DataError(f"data.source {source} has targets {name or 'y'} and no inputs for them", NAMES)
    return assemble(source, "an .npz file", {name: Split(*columns) for name, columns in parts.items()})


def _read(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, key: str) -> Array:
    """Return one array: in memory where it is small, else mapped, from a temporary file where it is compressed."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"{path}: {key} is of the .npy format {version}, which numbers do not need", NAMES)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        order: Literal["C", "F"] = "F" if fortran else "C"
        if dtype.hasobject:
            raise DataError(
                f"{path}: {key} is an array of Python objects, which only unpickling could read: that runs code", PAD
            )
        header = file.tell()
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or header + size != member.file_size:
            raise DataError(
                f"{path}: {key} says it is {dtype}{list(shape)}, {size:,} bytes, but has {member.file_size - header:,}",
                "The file is damaged, or made to do damage. Save it again with numpy.savez.",
            )
        if size > BOMB_BYTES and size > BOMB_RATIO * member.compress_size:
            raise DataError(
                f"{path}: {key} would grow from {member.compress_size:,} to {size:,} bytes",
                "No data shrink like that: it is refused as a zip bomb. If it is yours, save it with numpy.savez.",
            )
        if member.compress_type == zipfile.ZIP_STORED and size > spool.IN_MEMORY_BYTES:
            return spool.mapped(path, dtype, shape, _start(path, member) + header, order)
        array = spool.unpacked(file, dtype, shape, order)
        file.read(1)  # the end, where zipfile compares the checksum
        return array


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where a member's content begins: after its local header of 30 bytes, its name and what else is there."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2").tolist()
    return member.header_offset + 30 + int(name) + int(extra)
