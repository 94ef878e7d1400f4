"""Every kind of input comes to the answers that the runner itself gives, and a bad row is alone with its error."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scored_rows import errors, fixed, lists, numbers, png, scored, write

from pipeline.errors import DataError
from pipeline.tensors import Array

Images = NDArray[np.uint8]
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def _check(table: pa.Table, probabilities: Array, rows: int = 40) -> None:
    assert errors(table) == {}
    np.testing.assert_allclose(numbers(table["probabilities"]), probabilities[:rows], **CLOSE)
    assert table["answer"].to_pylist() == [str(one) for one in probabilities[:rows].argmax(axis=1)]
    np.testing.assert_allclose(table["score"].to_pylist(), probabilities[:rows].max(axis=1), **CLOSE)


def _columns(images: Images) -> dict[str, pa.Array]:
    tensor = pa.fixed_shape_tensor(pa.uint8(), images.shape[1:])
    return {
        "fixed-size lists": fixed(images),
        "lists of another type": pa.array(lists(images), pa.list_(pa.int64())),
        "nested lists": pa.array([image[..., 0].tolist() for image in images], pa.large_list(pa.list_(pa.uint8()))),
        "tensors": pa.ExtensionArray.from_storage(tensor, fixed(images)),
        "encoded pictures": pa.array([png(image) for image in images]),
        "pictures of Hugging Face": pa.array([{"bytes": png(image), "path": "x"} for image in images]),
    }


@pytest.mark.parametrize("kind", _columns(np.zeros((1, 28, 28, 1), np.uint8)))
def test_columns_of_parquet_files(
    kind: str, bundle: Path, images: Images, probabilities: Array, tmp_path: Path
) -> None:
    columns = {"id": np.arange(40) + 7, "image": _columns(images)[kind], "note": [f"note {row}" for row in range(40)]}
    source = write(tmp_path / "rows.parquet", columns, row_group_size=17)
    table = scored(bundle, source, tmp_path / "out", rows_per_file=16, batch_size=6)
    _check(table, probabilities)
    assert table.column_names == ["id", "note", "probabilities", "answer", "score", "error"]
    assert table["id"].to_pylist() == list(range(7, 47))
    assert table["note"].to_pylist() == [f"note {row}" for row in range(40)]


def test_a_folder_of_parquet_files_without_ids(
    bundle: Path, images: Images, probabilities: Array, tmp_path: Path
) -> None:
    write(tmp_path / "in/b.parquet", {"image": fixed(images[30:])})
    write(tmp_path / "in/a/x.parquet", {"image": fixed(images[:30])})
    write(tmp_path / "in/_left_out.parquet", {"other": [1]})
    table = scored(bundle, tmp_path / "in", tmp_path / "out")
    _check(table, probabilities)
    assert table["id"].to_pylist()[28:32] == ["a/x.parquet:28", "a/x.parquet:29", "b.parquet:0", "b.parquet:1"]


@pytest.mark.parametrize("ids", [[1, 2, 1], ["a", None, "b"]], ids=["twice", "null"])
def test_a_column_that_is_no_id_is_carried_along(
    ids: list[object], bundle: Path, images: Images, tmp_path: Path
) -> None:
    source = write(tmp_path / "rows.parquet", {"id": ids, "image": fixed(images[:3])})
    table = scored(bundle, source, tmp_path / "out")
    assert table["id"].to_pylist() == ids
    assert table["row_id"].to_pylist() == [f"rows.parquet:{row}" for row in range(3)]


def test_pictures_in_folders(bundle: Path, images: Images, probabilities: Array, tmp_path: Path) -> None:
    for row, image in enumerate(images):
        path = tmp_path / f"in/{row // 16}/{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (tmp_path / "in/0/about.txt").write_text("left out")
    np.save(tmp_path / "in/2/38.npy", images[38])
    (tmp_path / "in/2/38.png").unlink()
    table = scored(bundle, tmp_path / "in", tmp_path / "out", rows_per_file=15, batch_size=4)
    _check(table, probabilities)
    assert table["id"].to_pylist()[14:17] == ["0/14.png", "0/15.png", "1/16.png"]


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_arrays_of_rows(
    name: str, kind: type, bundle: Path, images: Images, probabilities: Array, tmp_path: Path
) -> None:
    source = tmp_path / name
    if name.endswith(".npz"):
        np.savez_compressed(source, image=images.astype(kind))
    else:
        np.save(source, images[..., 0].astype(kind))
    table = scored(bundle, source, tmp_path / "out", rows_per_file=13)
    _check(table, probabilities)
    assert table["id"].to_pylist() == list(range(40))


def test_bad_rows_are_alone_with_their_errors(
    bundle: Path, images: Images, probabilities: Array, tmp_path: Path
) -> None:
    rows: list[object] = [image.reshape(-1).astype(float).tolist() for image in images]
    rows[3] = [0.0] * 783
    rows[4] = None
    rows[5] = [256.0] * 784
    rows[6] = [0.5] * 784
    rows[7] = [None] * 784
    rows[8] = [float("nan")] * 784
    source = write(tmp_path / "rows.parquet", {"id": range(40), "image": rows})
    table = scored(bundle, source, tmp_path / "out", batch_size=5)
    no_number = "image: a number that uint8 does not hold"
    assert errors(table) == {
        3: "image: 783 numbers, not 784",
        4: "image: null",
        5: no_number,
        6: no_number,
        7: "image: a number is null",
        8: no_number,
    }
    good = [row for row in range(40) if row not in range(3, 9)]
    np.testing.assert_allclose(numbers(table["probabilities"].take(good)), probabilities[good], **CLOSE)


def test_bad_pictures_are_alone_with_their_errors(bundle: Path, images: Images, tmp_path: Path) -> None:
    encoded: list[bytes | None] = [png(image) for image in images]
    encoded[0], encoded[1], encoded[2] = b"no picture", None, png(images[2])[:300]
    source = write(tmp_path / "rows.parquet", {"id": range(40), "image": encoded})
    found = errors(scored(bundle, source, tmp_path / "out"))
    assert found.keys() == {0, 1, 2}
    assert found[0] == "image: no picture that can be read: none of PNG, JPEG, WEBP, BMP, or damaged at its beginning"
    assert found[1] == "image: no picture that can be read: null"
    folder = tmp_path / "in"
    folder.mkdir()
    for row, content in enumerate(encoded[:4]):
        (folder / f"{row}.png").write_bytes(content or b"")
    found = errors(scored(bundle, folder, tmp_path / "out of files"))
    assert found.keys() == {0, 1, 2}
    assert all(reason.startswith("cannot be read") for reason in found.values())


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": [1], "picture": [[0] * 784]}, "no column is called image: there are id, picture"),
        ({"id": [1], "image": ["text"]}, "column image is string"),
        ({"id": [1], "image": [[0] * 784], "error": ["x"]}, "has a column error"),
    ],
)
def test_columns_that_do_not_go_are_refused(
    columns: dict[str, list[object]], said: str, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        scored(bundle, write(tmp_path / "rows.parquet", columns), tmp_path / "out")


def test_what_is_no_input_is_refused(bundle: Path, images: Images, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="does not exist"):
        scored(bundle, tmp_path / "nothing", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no sample"):
        scored(bundle, tmp_path / "empty", out)
    np.save(tmp_path / "small.npy", images[:, :14])
    with pytest.raises(DataError, match=r"holds uint8 \[40, 14, 28, 1\]"):
        scored(bundle, tmp_path / "small.npy", out)
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="is an array of Python objects"):
        scored(bundle, tmp_path / "objects.npy", out)
    np.savez(tmp_path / "other.npz", picture=images)
    with pytest.raises(DataError, match="has no array image"):
        scored(bundle, tmp_path / "other.npz", out)
    (tmp_path / "cut.parquet").write_bytes(write(tmp_path / "x.parquet", {"image": fixed(images)}).read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read"):
        scored(bundle, tmp_path / "cut.parquet", out)
    write(tmp_path / "two/a.parquet", {"image": fixed(images)})
    write(tmp_path / "two/b.parquet", {"image": lists(images)})
    with pytest.raises(DataError, match="has other columns than"):
        scored(bundle, tmp_path / "two", out)
