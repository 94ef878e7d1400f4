"""The IDX layout, as MNIST, Fashion-MNIST and EMNIST have it: files of images and labels, for training and test."""

import gzip
import math
import re
import sys
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from pipeline.data import spool
from pipeline.data.assembling import assemble, split
from pipeline.data.splits import Dataset
from pipeline.errors import DataError
from pipeline.tensors import MOST_AXES, Array

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
"""By the third byte; numbers are big-endian (format: the MNIST page of Y. LeCun)."""

NAME = re.compile(r"(?:.*-)?(train|t10k|test)-(images|labels)[-.]idx\d(?:-\w+)?(?:\.gz)?")
DEFLATE_AT_MOST = 1032
"""So many bytes one compressed byte can hold (zlib's technical details)."""

AGAIN = "Download the file again."


def files(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the IDX files of a folder by split, train or test, and kind, images or labels.

    Raises:
        DataError: two files are of the same split and kind.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        if named := NAME.fullmatch(path.name):
            key = ("train" if named[1] == "train" else "test", named[2])
            if key in found:
                raise DataError(
                    f"{folder} has {found[key].name} and {path.name}: which {key[1]} for {key[0]}?",
                    "Keep one set of files in a folder.",
                )
            found[key] = path
    return found


def load(source: str) -> Dataset:
    """Return the set in a folder; images get their last axis, of one channel. Labels may be missing, all of them.

    Raises:
        DataError: a file is missing or cannot be used.
    """
    found = files(Path(source))
    kinds = ("images", "labels") if any(kind == "labels" for _, kind in found) else ("images",)
    if missing := [f"{name} {kind}" for name in ("train", "test") for kind in kinds if (name, kind) not in found]:
        raise DataError(
            f"data.source {source} has no IDX file of the {', '.join(missing)}",
            "The names are MNIST's: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
            "t10k-labels-idx1-ubyte; with .gz or without, and whatever before.",
        )
    parts = {}
    for name in ("train", "test"):
        images = read(found[name, "images"])
        labels = read(found[name, "labels"]) if (name, "labels") in found else None
        parts[name] = split(images[..., None] if images.ndim == 3 else images, labels)
    return assemble(source, "IDX files", parts)


def read(path: Path, magic: int | None = None) -> Array:
    """Read one IDX file, gzip or not; a large one is mapped, from a temporary file where it is compressed.

    Raises:
        DataError: the file is truncated, too long, damaged, or has another magic number than `magic`.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with cast("IO[bytes]", gzip.open(path) if packed else path.open("rb")) as file:
            start = file.read(4)
            dtype, rank = _kind(path, start, magic)
            sizes = file.read(4 * rank)
            header = 4 + 4 * rank
            if len(sizes) < 4 * rank:
                raise DataError(f"{path} is truncated: {4 + len(sizes)} bytes, the header alone has {header}", AGAIN)
            shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, 4 * rank, 4))
            # NumPy multiplies the other sizes also where one is 0.
            beside = math.prod(size or 1 for size in shape) * dtype.itemsize
            if rank > MOST_AXES or (0 in shape and beside > sys.maxsize):
                raise DataError(f"{path} is damaged: no array is as large as its header {shape} says", AGAIN)
            expected = header + math.prod(shape) * dtype.itemsize
            there = path.stat().st_size
            if there * DEFLATE_AT_MOST < expected if packed else there < expected:
                raise _of_another_length(path, "truncated", f"{there} bytes", shape, expected)
            if expected > spool.IN_MEMORY_BYTES and not packed:
                found = spool.mapped(path, dtype, shape, header)
            else:
                found = spool.unpacked(file, dtype, shape)
            if (there > expected) if not packed else file.read(1):
                raise _of_another_length(path, "too long", f"{there} bytes", shape, expected)
            return found
    except EOFError as error:
        what = "cannot be unpacked" if "marker" in str(error) else "is truncated"
        raise DataError(f"{path} {what}: {error}", AGAIN) from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}", AGAIN) from error


def _kind(path: Path, start: bytes, magic: int | None) -> tuple[np.dtype[np.generic], int]:
    """Return the type of an element and the number of dimensions."""
    number = int.from_bytes(start, "big")
    kind = TYPES.get(number >> 8)
    if len(start) < 4 or kind is None or not number & 0xFF or magic not in (None, number):
        wanted = "" if magic is None else f", not 0x{magic:08x}"
        raise DataError(f"{path} is not the IDX file expected: magic 0x{number:08x}{wanted}", AGAIN)
    return np.dtype(f">{kind}"), number & 0xFF


def _of_another_length(path: Path, what: str, there: str, shape: tuple[int, ...], expected: int) -> DataError:
    return DataError(f"{path} is {what}: {there}, its header {shape} says {expected}", AGAIN)
