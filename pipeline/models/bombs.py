"""Files that would unpack to what no machine holds: zip and HDF5 bombs, told by what they declare before they are read.

Keras looks at each array on its own, from 4 GiB on; here all of a file count together, and the machine's memory too.
"""

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from pipeline.errors import ArtifactError

BOMB_BYTES, BOMB_RATIO = 1 << 30, 100
"""What is stored in a hundredth of its size, or less, must not grow beyond this: no weights shrink like that."""


class Part(NamedTuple):
    """A member of a zip file, or a dataset of an HDF5 file: its bytes once read, and in the file."""

    name: str
    declared: int
    stored: int


def refuse_zip(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise ArtifactError if the members of a zip file would unpack to too much."""
    _refuse(path, (Part(one.filename, one.file_size, one.compress_size) for one in archive.infolist()))


def refuse_hdf5(path: Path, content: Any) -> None:
    """Raise ArtifactError if the arrays of an HDF5 file would unpack to too much; `content` is what h5py opens.

    Raises:
        OSError: it is no HDF5 file, in HDF5's words.
    """
    with h5py.File(content, "r") as file:
        _refuse(path, _datasets(file))


def memory_bytes() -> int:
    """Return how much memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _datasets(file: h5py.File) -> Iterator[Part]:
    found: list[Part] = []

    def add(name: str, one: h5py.Group | h5py.Dataset) -> None:
        if isinstance(one, h5py.Dataset) and one.shape is not None:
            found.append(Part(name, one.nbytes, one.id.get_storage_size()))

    file.visititems(add)  # which follows no link out of the file
    return iter(found)


def _refuse(path: Path, parts: Iterable[Part]) -> None:
    every = list(parts)
    grown = [one for one in every if one.declared > BOMB_RATIO * one.stored]
    if (declared := sum(one.declared for one in grown)) > BOMB_BYTES:
        largest = max(grown, key=lambda one: one.declared)
        raise ArtifactError(
            f"{path} would grow from {sum(one.stored for one in grown):,} to {declared:,} bytes, most of it in "
            f"{largest.name}",
            "No weights shrink like that: it is refused as a bomb. If it is yours, save it again with model.save.",
        )
    if (declared := sum(one.declared for one in every)) > (memory := memory_bytes()):
        raise ArtifactError(
            f"{path} holds {declared:,} bytes, and this machine has {memory:,} bytes of memory",
            "Use a machine with more memory, or a smaller model.",
        )
