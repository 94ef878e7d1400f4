"""Arrays in files of others: whatever their bytes are, an array comes out, or an error that names the file."""

import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data import npy, samples
from pipeline.errors import DataError
from pipeline.tensors import TensorSpec

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)
SPEC = TensorSpec("x", (None, 3, 4), np.dtype(np.float32))


def packed(save: Callable[..., None], **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, *(() if arrays else (NUMBERS,)), **arrays)
    return file.getvalue()


NPY = packed(np.save)
NPZ = [packed(np.savez, x=NUMBERS), packed(np.savez_compressed, x=NUMBERS)]


def with_header(text: str, content: bytes = bytes(48)) -> bytes:
    """Return an .npy file of another header."""
    header = text.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


HOSTILE = {
    "empty": b"",
    "short": NPY[:9],
    "cut": NPY[:-1],
    "too long": NPY + b"\0",
    "no dictionary": with_header("[]"),
    "no keys": with_header("{}"),
    "type of no type": with_header("{'descr': ('a', 'b', 'c'), 'fortran_order': False, 'shape': (3, 4)}"),
    "type that is a number": with_header("{'descr': 7, 'fortran_order': False, 'shape': (3, 4)}"),
    "type in a type": with_header("{'descr': [('a',)], 'fortran_order': False, 'shape': (3, 4)}"),
    "objects": with_header("{'descr': '|O', 'fortran_order': False, 'shape': (3, 4)}"),
    "of no bytes": with_header("{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000,)}", b""),
    "terabytes": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}"),
    "overflow": with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 0)}}", b""),
    "negative": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4)}"),
    "unclosed": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4"),
    "deep": with_header("(" * 9_000),
    "odd text": with_header("{'descr': '\\z', 'fortran_order': False, 'shape': (3, 4)}"),
    "other format": NPY[:6] + b"\x07\x00" + NPY[8:],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("inside", [False, True], ids=["npy", "npz"])
def test_a_hostile_header_is_refused_by_name(tmp_path: Path, name: str, inside: bool) -> None:
    path = tmp_path / ("sample.npz" if inside else "sample.npy")
    if inside:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", HOSTILE[name])
    else:
        path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"sample\.np"):
        samples.read(path, [SPEC], lambda _: 1.0)


Changes = st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([NPY, *NPZ]), Changes, st.integers(0))
def test_changed_bytes_become_an_array_or_an_error(
    tmp_path: Path, raw: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(raw)
    for place, byte in changes:
        content[place % len(raw)] = byte
    path = tmp_path / ("sample.npy" if raw is NPY else "sample.npz")
    path.write_bytes(content[: len(raw) - cut % 3])
    with suppress(DataError):  # and nothing else
        found = [npy.load(path)] if raw is NPY else [array for _, array in npy.members(path)]
        assert all(isinstance(array, np.ndarray) and array.nbytes <= len(raw) for array in found)


def test_an_archive_that_holds_a_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.writestr("x.npy", NPY)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", NPY)
    with pytest.raises(DataError, match="holds x twice"):
        dict(npy.members(tmp_path / "twice.npz"))
