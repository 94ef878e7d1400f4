"""The IDX layout as `data.source`: other sets than MNIST, other types, large files."""

import gzip
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_sets import SPLITS, idx, sample_set, write

from pipeline import data
from pipeline.config import Data
from pipeline.data import idx as reading
from pipeline.data import spool
from pipeline.data.splits import THE_ONLY
from pipeline.errors import DataError


@pytest.mark.parametrize("named", ["{}", "{}.gz", ".idx3"])
def test_a_folder_is_read_and_a_tenth_held_out(tmp_path: Path, named: str) -> None:
    arrays = sample_set(30, 7)
    dataset = data.load(Data(source=str(write(tmp_path / "set", arrays, named))))
    assert [len(getattr(dataset, name)) for name in SPLITS] == [27, 3, 7]
    np.testing.assert_array_equal(dataset.test.inputs[THE_ONLY][:][..., 0], list(arrays.values())[2])
    np.testing.assert_array_equal(dataset.test.targets[THE_ONLY][:], list(arrays.values())[3])


def test_names_of_other_sets_sizes_and_missing_labels(tmp_path: Path) -> None:
    for name, count in (("train", 10), ("test", 5)):
        images = np.zeros((count, 6, 9), np.uint8)
        (tmp_path / f"emnist-letters-{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    dataset = data.load(Data(source=str(tmp_path)))
    assert dataset.test.inputs[THE_ONLY].shape == (5, 6, 9, 1)
    assert not dataset.test.targets


@pytest.mark.parametrize("kind", [0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E])
@pytest.mark.parametrize("packed", [False, True])
def test_every_type_is_read_in_memory_or_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, packed: bool
) -> None:
    array = np.arange(60).reshape(3, 20).astype(f">{reading.TYPES[kind]}")
    content = bytes([0, 0, kind, 2, 0, 0, 0, 3, 0, 0, 0, 20]) + array.tobytes()
    (tmp_path / "file").write_bytes(gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(reading.read(tmp_path / "file"), array)
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 10)
    mapped = reading.read(tmp_path / "file")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, array)


def test_what_is_missing_or_there_twice_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", sample_set(6, 4))
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no IDX file of the test labels"):
        data.load(Data(source=str(folder)))
    (folder / "other-train-images-idx3-ubyte").touch()
    with pytest.raises(DataError, match="other-train-images-idx3-ubyte and train-images-idx3-ubyte: which"):
        data.load(Data(source=str(folder)))


def test_a_packed_file_that_says_more_than_it_can_hold_is_not_unpacked(tmp_path: Path) -> None:
    header = (0x803).to_bytes(4, "big") + (2**31 - 1).to_bytes(4, "big") * 3
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(header + os.urandom(100)))
    with pytest.raises(DataError, match="is truncated"):
        reading.read(tmp_path / "bomb.gz")


HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])


@settings(max_examples=300, deadline=None)
@given(
    raw=st.sampled_from((HEADER + bytes(24), gzip.compress(HEADER + bytes(24)), HEADER[:4] + b"\xff" * 12)),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=5),
    cut=st.integers(0),
    more=st.binary(max_size=9),
)
def test_damaged_bytes_become_numbers_or_are_refused(
    raw: bytes, changes: list[tuple[int, int]], cut: int, more: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(raw)
    for place, byte in changes:
        content[place % len(raw)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged-idx3-ubyte"
    path.write_bytes(bytes(content[: len(raw) - cut % len(raw)]) + more)
    with suppress(DataError):  # and nothing else
        found = reading.read(path)
        assert found.nbytes <= 1 << 20


@given(content=st.binary(max_size=64))
def test_any_bytes_become_numbers_or_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any-idx3-ubyte"
    path.write_bytes(content)
    with suppress(DataError):
        reading.read(path)


@pytest.mark.parametrize(
    ("rank", "sizes"),
    [(7, [0, 0, 0, 64, 2**32 - 1, 2**32 - 1, 2**32 - 1]), (65, [0] * 65), (255, [1] * 255)],
    ids=["too large beside a 0", "too many axes", "the most axes"],
)
def test_a_header_of_what_no_array_is_is_refused(rank: int, sizes: list[int], tmp_path: Path) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 0x0C, rank]) + b"".join(size.to_bytes(4, "big") for size in sizes) + bytes(4))
    with pytest.raises(DataError, match="no array is as large as its header"):
        reading.read(path)
