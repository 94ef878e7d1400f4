"""The same data again: later stages reload them, and training runs anew where they are others."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from sample_sets import GOOD, MODEL, TEST_LABELS, TRAIN_LABELS, Arrays, OwnData, model, write

from pipeline import data, digests
from pipeline.config import Data
from pipeline.data import mnist, sources
from pipeline.errors import DataError


def test_reload_returns_the_data_of_the_training_whatever_is_configured_now(
    tmp_path: Path, like_mnist: Arrays, own: OwnData
) -> None:
    folder, source = write(tmp_path / "set", like_mnist), own(GOOD)
    colour = model({"photo": "uint8 ? 12 16 3"}, {"kind": "float32 ? 3"})
    for trained_on, signature in (
        (Data(dir=folder), MODEL),
        (Data(name="digits"), MODEL),
        (Data(source=source), colour),
    ):
        record = data.bind(data.load(trained_on), signature).record()
        for now in (Data(name="digits", dir=folder), Data(source=source, dir=folder)):
            assert data.reload(record, signature, now).record() == record


@pytest.mark.parametrize(("file", "split"), [(TRAIN_LABELS, "train|validation"), (TEST_LABELS, "test")])
def test_reload_refuses_data_that_have_changed(tmp_path: Path, like_mnist: Arrays, file: str, split: str) -> None:
    folder = write(tmp_path / "set", like_mnist)
    record = data.bind(data.load(Data(dir=folder)), MODEL).record()
    changed = like_mnist[file].copy()
    changed[0] = (changed[0] + 1) % 10
    write(folder, {file: changed})
    with pytest.raises(DataError, match=f"the ({split}) split of mnist .* is not the one") as caught:
        data.reload(record, MODEL, Data(dir=folder))
    assert caught.value.exit_code == 2


def test_reload_refuses_own_data_that_have_changed(own: OwnData, tmp_path: Path) -> None:
    source = own(f"def load(): return [(np.load('{tmp_path}/images.npy'), np.arange(20) % 3)] * 2")
    np.save(tmp_path / "images.npy", np.zeros((20, 28, 28), np.uint8))
    record = data.bind(data.load(Data(source=source)), MODEL).record()
    np.save(tmp_path / "images.npy", np.ones((20, 28, 28), np.uint8))
    with pytest.raises(DataError, match=source):
        data.reload(record, MODEL, Data())


@pytest.mark.parametrize("file", mnist.IDX_FILES)
def test_data_are_identified_by_the_content_of_every_file(tmp_path: Path, small: Arrays, file: str) -> None:
    folder = write(tmp_path / "set", small)
    before = data.identify(Data(dir=folder))
    assert before.startswith("mnist ")
    assert data.identify(Data(dir=folder)) == before
    shutil.copytree(folder, tmp_path / "copy")
    assert data.identify(Data(name="mnist", dir=tmp_path / "copy")) == before
    write(folder, {file: small[file] ^ 1})
    assert data.identify(Data(dir=folder)) != before


def test_own_data_are_identified_by_the_file_of_their_function(own: OwnData, tmp_path: Path) -> None:
    source = own(GOOD)
    before = data.identify(Data(source=source))
    assert data.identify(Data(source=source)) == before
    data.load(Data(source=source))
    assert data.identify(Data(source=source)) == before
    file = tmp_path / f"{source.partition(':')[0]}.py"
    file.write_text(file.read_text().replace("40", "50"))
    assert data.identify(Data(source=source)) != before


@pytest.mark.parametrize("module", ["no_such_module_at_all", "no_such_package.module", "sys"])
def test_a_source_without_a_file_is_identified_as_not_found(module: str) -> None:
    assert data.identify(Data(source=f"{module}:load")) == f"{module}:load not found"


def test_data_that_are_not_at_hand_are_identified_without_a_download() -> None:
    assert data.identify(Data(name="digits")) == data.identify(Data(name="auto")) == "digits"
    assert data.identify(Data(name="mnist")) == "mnist, unavailable"


def test_files_and_folders_are_identified_by_their_content(tmp_path: Path) -> None:
    file, folder = tmp_path / "data.npz", tmp_path / "folder"
    np.savez(file, x=np.zeros(9))
    for path in (file, write(folder, {"images": np.zeros((1, 2, 2), np.uint8)})):
        options = Data(source=str(path))
        before = data.identify(options)
        inner = path if path.is_file() else path / "images"
        os.utime(inner, (1, 1))
        assert data.identify(options) == before
        inner.write_bytes(inner.read_bytes()[:-1] + b"\1")
        assert data.identify(options) != before


def test_large_files_are_identified_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "READ_BYTES", 100)
    monkeypatch.setattr(digests, "of_path", None)  # nothing is read
    file, folder = tmp_path / "data.npz", tmp_path / "folder"
    np.savez(file, x=np.zeros(99))
    for path in (file, write(folder, {"images": np.zeros((9, 9, 9), np.uint8)})):
        options = Data(source=str(path))
        before = data.identify(options)
        assert data.identify(options) == before
        inner = path if path.is_file() else path / "images"
        os.utime(inner, (1, 1))
        assert data.identify(options) != before
