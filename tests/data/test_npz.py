"""Data in an .npz file: names and splits, files larger than memory, and files that are damaged or made to do damage."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_sets import images_of, labels_of, model

from pipeline import data
from pipeline.config import Data
from pipeline.data import npy, spool
from pipeline.data.splits import THE_ONLY
from pipeline.errors import DataError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 4


def saved(path: Path, save: Callable[..., None] = np.savez, **arrays: Any) -> Data:
    save(path / "data.npz", **arrays)
    return Data(source=str(path / "data.npz"))


def refused(options: Data) -> DataError:
    with pytest.raises(DataError) as caught:
        data.load(options)
    assert options.source in caught.value.message
    assert caught.value.exit_code == 2
    return caught.value


def test_x_and_y_are_split_here(tmp_path: Path) -> None:
    dataset = data.load(saved(tmp_path, x=X, y=Y[:, None].astype(np.uint8)))
    assert [len(split) for split in dataset.splits.values()] == [32, 4, 4]
    for split in dataset.splits.values():
        for row, label in zip(images_of(split), labels_of(split), strict=True):
            assert label == Y[np.flatnonzero((row == X).all(axis=1))[0]]


def test_keras_own_layout_is_read_and_a_tenth_held_out(tmp_path: Path) -> None:
    dataset = data.load(saved(tmp_path, x_train=X, y_train=Y, x_test=X[:8] + 1, y_test=Y[:8]))
    assert [len(split) for split in dataset.splits.values()] == [36, 4, 8]
    np.testing.assert_array_equal(images_of(dataset.test), X[:8] + 1)
    np.testing.assert_array_equal(labels_of(dataset.test), Y[:8])


def test_given_splits_and_names_are_kept_and_labels_may_be_missing(tmp_path: Path) -> None:
    arrays = {
        f"x_{name}/{one}": X[:size] for name, size in (("train", 9), ("validation", 3), ("test", 4)) for one in "ab"
    }
    dataset = data.load(saved(tmp_path, **arrays))
    assert [len(split) for split in dataset.splits.values()] == [9, 3, 4]
    assert list(dataset.test.inputs) == ["a", "b"]
    assert dataset.record().targets == ()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_large_is_mapped_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[..., None], order: Any
) -> None:
    options = saved(tmp_path, save, x=np.asarray(X, order=order), y=Y)
    small = data.load(options)
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 100)
    large = data.load(options)
    assert isinstance(large.train.inputs[THE_ONLY].rows, np.memmap)
    assert not isinstance(small.train.inputs[THE_ONLY].rows, np.memmap)
    assert large.record() == small.record()


def test_a_disk_that_is_too_small_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(spool, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(DataError, match=r"GiB of temporary files, and .* has"):
        data.load(saved(tmp_path, np.savez_compressed, x=X))
    assert len(data.load(saved(tmp_path, np.savez, x=X)).test) == 4  # needs no copy


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X, "labels": Y}, "an array named 'labels'"),
        ({"x": X, "x_val": X}, "an array named 'x_val'"),
        ({"y": Y}, "targets y and no inputs"),
        ({"x_train": X, "x_test": X, "y_validation": Y}, "targets validation and no inputs"),
        ({"x_train": X}, "has samples of train"),
        ({"x": X, "x_test": X}, "has samples of no split, test"),
        ({}, "holds no arrays"),
        ({"x": X, "y": Y[:39]}, "input 40, target 39"),
        ({"x_train": X, "x_test": X[:0]}, "a split has no samples"),
        ({"x_train": X, "x_test": X[:, :2]}, "input [3]; input [2]"),
        ({"x": np.array("text")}, "the input is <U4 []"),
        ({"x": np.zeros(9, "V2")}, "the input is |V2 [9], not numbers"),
        ({"x": np.zeros(9, "M8[s]")}, "the input is datetime64[s] [9]"),
        ({"x": np.zeros(9, [("a", int)])}, "not numbers"),
        ({"x": np.array([[1, 2], [3]], object)}, "x is an array of Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    assert said in refused(saved(tmp_path, **arrays)).message


def test_objects_are_refused_with_the_advice_to_pad(tmp_path: Path) -> None:
    assert "pad_sequences" in refused(saved(tmp_path, x=np.array([[1, 2], [3]], object))).hint


def member(shape: tuple[int, ...], content: bytes, dtype: str = "<f4") -> bytes:
    """Return an .npy file that says it has a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (member((10**6, 10**6), bytes(400)), "4,000,000,000,000 bytes, but has 400"),
        (member((10, 10), bytes(399)), "400 bytes, but has 399"),
        (member((-10, -10), bytes(400)), "float32[-10, -10]"),
        (member((10, 10), bytes(401)), "400 bytes, but has 401"),
        (b"not an array", "magic string"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "EOF"),
    ],
)
def test_a_member_that_is_not_what_it_says_is_refused_unread(tmp_path: Path, content: bytes, said: str) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    assert said in refused(Data(source=str(tmp_path / "data.npz"))).message


def test_a_zip_bomb_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = saved(tmp_path, np.savez_compressed, x=np.zeros((1000, 1000)))
    assert len(data.load(options).test) == 100
    monkeypatch.setattr(npy, "BOMB_BYTES", 1_000_000)
    error = refused(options)
    assert "to 8,000,000 bytes" in error.message
    assert "zip bomb" in error.hint


def test_a_bomb_that_hides_its_size_is_cut_where_it_said_it_ends(tmp_path: Path) -> None:
    """The directory of the archive says 400 bytes of content, and 4,000,000 would come out."""
    options = saved(tmp_path, np.savez_compressed, x=np.zeros((1000, 1000), np.float32))
    path = Path(options.source)
    raw = path.read_bytes()
    honest, lie = struct.pack("<I", 128 + 4_000_000), struct.pack("<I", 128 + 400)
    assert honest in raw
    path.write_bytes(raw.replace(honest, lie))
    assert "Bad CRC-32" in refused(options).message


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: b"<html>",
        lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
    ],
    ids=["halved", "empty", "another", "one-bit"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    options = saved(tmp_path, x=X)
    path = Path(options.source)
    path.write_bytes(damage(path.read_bytes()))
    assert "is not an .npz file that can be read" in refused(options).message


def test_a_bad_number_is_named_with_its_place_in_the_file(tmp_path: Path) -> None:
    bad = X.copy()
    bad[17, 1] = np.nan
    dataset = data.bind(data.load(saved(tmp_path, x=bad)), model({"row": "float32 ? 3"}, {"out": "float32 ? 1"}))
    with pytest.raises(DataError, match=r"split: the input row holds nan as float32, in sample \d+ \(sample 17 of the"):
        dataset.record()
