"""Folders of images: classes and splits from the folders, sizes and channels from the model, files that are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_sets import labels_of, model

from pipeline import data
from pipeline.config import Data
from pipeline.data.splits import THE_ONLY, Dataset
from pipeline.errors import DataError

COLOURS = {"blue": (0, 0, 250), "red": (250, 0, 0)}
SIZE = (12, 10)  # Pillow's order: width, height


def paint(
    path: Path, colour: tuple[int, ...] | int = (1, 2, 3), size: tuple[int, int] = SIZE, mode: str = "RGB"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def classes(folder: Path, count: int = 10) -> Path:
    for name, colour in COLOURS.items():
        for number in range(count):
            paint(folder / name / f"{number}.png", colour)
    return folder


def load(folder: Path, input_: str = "uint8 ? 10 12 3") -> Dataset:
    return data.bind(data.load(Data(source=str(folder))), model({"photo": input_}, {"kind": "float32 ? 2"}))


def test_subfolders_are_the_classes_and_the_split_is_made_evenly(tmp_path: Path) -> None:
    dataset = load(classes(tmp_path))
    assert dataset.class_names == {"kind": ("blue", "red")}
    assert [len(split) for split in dataset.splits.values()] == [16, 2, 2]
    for split in dataset.splits.values():
        labels = split.labels()["kind"]
        assert np.bincount(labels).tolist() == [len(split) // 2] * 2
        for photo, label in zip(split.feed()["photo"], labels, strict=True):
            assert (photo == list(COLOURS.values())[label]).all()
    assert dataset.record().inputs[0].shape == (None, 10, 12, 3)
    assert dataset.record() == load(tmp_path).record()


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for name, count in (("train", 5), ("validation", 2), ("test", 1)):
        classes(tmp_path / name, count)
    dataset = data.load(Data(source=str(tmp_path)))
    assert [len(split) for split in dataset.splits.values()] == [10, 4, 2]
    (tmp_path / "test" / "red" / "0.png").unlink()
    assert labels_of(data.load(Data(source=str(tmp_path))).test).tolist() == [0]


def test_images_without_classes_have_no_labels(tmp_path: Path) -> None:
    for number in range(5):
        paint(tmp_path / f"{number}.png")
    dataset = load(tmp_path)
    assert dataset.record().targets == ()
    assert dataset.class_names == {}
    assert sum(map(len, dataset.splits.values())) == 5


@pytest.mark.parametrize(
    ("input_", "shape", "dtype"),
    [
        ("uint8 ? 5 6 3", (5, 6, 3), np.uint8),
        ("float32 ? 20 20 1", (20, 20, 1), np.float32),
        ("uint8 ? ? ? 3", (10, 12, 3), np.uint8),
        ("float16 1 ? ? ?", (10, 12, 3), np.float16),
        ("uint8 ? 10 12 4", (10, 12, 4), np.uint8),
    ],
)
def test_images_are_as_large_as_the_model_takes_them(
    tmp_path: Path, input_: str, shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    feed = load(classes(tmp_path), input_).test.feed()["photo"]
    assert (feed.shape, feed.dtype) == ((2, *shape), dtype)


def test_formats_and_modes_become_what_the_model_takes(tmp_path: Path) -> None:
    for number, suffix in enumerate((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".PNG")):
        paint(tmp_path / f"{number}{suffix}", (200, 200, 200))
    paint(tmp_path / "grey.png", 200, mode="L")
    paint(tmp_path / "palette.png", 1, mode="P")
    paint(tmp_path / "opaque.png", (200, 200, 200, 255), mode="RGBA")
    (tmp_path / "notes.txt").write_text("of these")
    dataset = load(tmp_path)
    assert dataset.origin == "a folder of images (1 other files left out)"
    everything = np.concatenate([split.feed()["photo"] for split in dataset.splits.values()])
    assert everything.shape == (9, 10, 12, 3)
    assert (np.abs(everything.mean(axis=(1, 2, 3)) - 200) < 2).sum() == 8  # and the palette's first colour


def test_several_sizes_are_resized_or_refused_with_two_names(tmp_path: Path) -> None:
    classes(tmp_path)
    odd = paint(tmp_path / "red" / "odd.png", size=(30, 30))
    assert load(tmp_path).record().samples.test == 3
    for shape in ("uint8 ? ? ? 3", "uint8 ? 10 ? 3"):
        with pytest.raises(DataError) as caught:
            load(tmp_path, shape)
        assert f"{odd} is 30×30" in caught.value.message
        assert "is 12×10" in caught.value.message


@pytest.mark.parametrize("input_", ["float32 ? 10", "float32 ? 3 10 12", "float32 ? 10 12"])
def test_a_model_that_takes_no_images_says_what_it_takes(tmp_path: Path, input_: str) -> None:
    with pytest.raises(DataError, match=r"photo float32\[\?, .*is not \[samples, height, width, channels\]"):
        load(classes(tmp_path), input_)


def damaged(folder: Path) -> Path:
    raw = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(raw).save(folder / "red" / "0.png")
    content = (folder / "red" / "0.png").read_bytes()
    (folder / "red" / "0.png").write_bytes(content[: len(content) // 2])
    return folder / "red" / "0.png"


def text(folder: Path) -> Path:
    (folder / "red" / "0.png").write_text("not an image")
    return folder / "red" / "0.png"


def sixteen_bits(folder: Path) -> Path:
    Image.fromarray(np.zeros((10, 12), np.uint16)).save(folder / "red" / "0.png")
    return folder / "red" / "0.png"


def bomb(folder: Path) -> Path:
    return paint(folder / "red" / "0.png", 0, (10_000, 10_000), "1")


@pytest.mark.parametrize("spoil", [damaged, text, sixteen_bits, bomb])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, spoil: object) -> None:
    path = spoil(classes(tmp_path))  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        load(tmp_path).record()
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_layouts_that_are_none_are_refused(tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(DataError) as caught:
            data.load(Data(source=str(folder)))
        return caught.value.message

    (tmp_path / "empty").mkdir()
    assert "has no images" in refused(tmp_path / "empty")
    paint(classes(tmp_path / "beside") / "stray.png")
    assert "stray.png lies beside the folders blue, red" in refused(tmp_path / "beside")
    for name in ("train", "test"):
        classes(tmp_path / "more" / name, 2)
    paint(tmp_path / "more" / "test" / "green" / "0.png")
    assert "has the classes ['green'], which train has not" in refused(tmp_path / "more")
    classes(tmp_path / "more" / "extra")
    assert "beside them ['extra']" in refused(tmp_path / "more")
    for path in (tmp_path / "beside" / "stray.png", tmp_path / "nowhere"):
        assert str(path) in refused(path)


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path: Path) -> None:
    dataset = data.load(Data(source=str(classes(tmp_path))))
    assert dataset.targets[0].classes == ("blue", "red")
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert len(dataset.train) == 16
    with pytest.raises(DataError, match=r"\.png is not an image"):
        dataset.train.inputs[THE_ONLY][np.array([0])]
