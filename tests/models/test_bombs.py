"""Files that would unpack to what no machine holds are refused by what they declare, before anything is unpacked."""

import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from pipeline import environment, memory
from pipeline.errors import ArtifactError
from pipeline.models import bombs

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline.models import sources

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ROWS = 1 << 18
ZEROS = bytes(1 << 20)


def one_member(path: Path) -> None:
    """Write a zip file of a member of 1.2 GB, which is 5 MB there."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("config.json", "w", force_zip64=True) as member,
    ):
        for _ in range(1200):
            member.write(ZEROS)


def datasets(path: Path, count: int, rows: int) -> None:
    """Write an HDF5 file of arrays of 4 · 1,024 · `rows` bytes that are nowhere filled in."""
    with h5py.File(path, "w") as file:
        for number in range(count):
            file.create_dataset(f"layers/dense_{number}/vars/0", (rows, 1024), "f4", chunks=(1024, 1024))


def one_array(path: Path) -> None:
    datasets(path, 1, 16 * ROWS)


def many_arrays(path: Path) -> None:
    datasets(path, 8, ROWS // 4)


def within_a_keras_file(path: Path) -> None:
    weights = path.with_suffix(".weights.h5")
    datasets(weights, 8, ROWS // 4)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(weights, "model.weights.h5")


@pytest.mark.parametrize(
    ("name", "make", "largest"),
    [
        ("bomb.keras", one_member, "config.json"),
        ("bomb.keras", within_a_keras_file, "layers/dense_"),
        ("bomb.h5", one_array, "layers/dense_0/vars/0"),
        ("bomb.h5", many_arrays, "layers/dense_"),
    ],
)
def test_a_bomb_is_refused(name: str, make: Callable[[Path], None], largest: str, tmp_path: Path) -> None:
    path = tmp_path / name
    make(path)
    assert path.stat().st_size < 1e7
    with pytest.raises(ArtifactError, match=f"{path} would grow from") as caught:
        sources.read(path)
    assert largest in caught.value.message
    assert "refused as a bomb" in caught.value.hint


def test_what_is_small_may_be_packed_as_it_likes(tmp_path: Path) -> None:
    datasets(tmp_path / "small.h5", 2, ROWS // 8)
    bombs.refuse_hdf5(tmp_path / "small.h5", tmp_path / "small.h5")


def test_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", ZEROS)
    with zipfile.ZipFile(path) as archive:
        bombs.refuse_zip(path, archive)
        monkeypatch.setattr(bombs, "memory_bytes", lambda: len(ZEROS) - 1)
        with pytest.raises(
            ArtifactError, match="holds 1,048,576 bytes, and this machine has 1,048,575 bytes of memory"
        ):
            bombs.refuse_zip(path, archive)


@pytest.mark.slow  # TensorFlow asks for ten seconds whether there is memory after all
def test_a_small_file_that_describes_a_huge_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, path = tmp_path / "small.keras", tmp_path / "huge.keras"
    keras.Sequential([keras.Input((1000,)), keras.layers.Dense(7)]).save(whole)
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b'"units": 7', b'"units": 400000')  # 1.6 GB
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    free = {"VmData": memory._bytes("/proc/self/status", "VmData"), "MemAvailable": 1 << 29}
    monkeypatch.setattr(memory, "_bytes", lambda file, key: free[key])
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ArtifactError, match=f"{path} describes a model that needs more memory than there is"):
        sources.read(path)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert sources.read(whole).count_params() == 7007
