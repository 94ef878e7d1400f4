"""Files of one sample: pictures for an image, arrays for anything."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Data
from pipeline.data import samples
from pipeline.errors import DataError
from pipeline.tensors import TensorSpec

WHITE = partial(samples.white, options=Data(name="digits"))
IMAGE = TensorSpec("image", (None, 28, 28, 1), np.dtype(np.uint8))
FLOATS = TensorSpec("image", (None, 28, 28, 1), np.dtype(np.float32))
ANY_SIZE = TensorSpec("image", (None, None, None, 3), np.dtype(np.uint8))
NUMBERS = TensorSpec("numbers", (None, 6), np.dtype(np.float32))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a picture and arrays, one sample each."""
    Image.fromarray(np.full((14, 28, 3), 255, np.uint8)).save(tmp_path / "white.png")
    np.save(tmp_path / "image.npy", np.zeros((28, 28), np.uint8))
    np.save(tmp_path / "numbers.npy", np.arange(6, dtype=np.float32))
    np.savez(tmp_path / "both.npz", image=np.ones((28, 28, 1), np.uint8), numbers=np.ones(6, np.float32))
    return tmp_path


def test_a_picture_becomes_pixels_of_the_models_size_and_type(files: Path) -> None:
    found = samples.read(files / "white.png", [IMAGE], WHITE)["image"]
    assert (found.shape, found.dtype, found.min()) == ((1, 28, 28, 1), np.uint8, 255)
    assert samples.read(files / "white.png", [ANY_SIZE], WHITE)["image"].shape == (1, 14, 28, 3)
    floats = samples.read(files / "white.png", [FLOATS], WHITE)["image"]
    assert (floats.dtype, floats.max()) == (np.float32, 255), "as the digits' pixels are"


def test_arrays_are_taken_as_they_are(files: Path) -> None:
    assert samples.read(files / "image.npy", [IMAGE], WHITE)["image"].shape == (1, 28, 28, 1)
    np.testing.assert_array_equal(samples.read(files / "numbers.npy", [NUMBERS], WHITE)["numbers"], [np.arange(6)])
    both = samples.read(files / "both.npz", [IMAGE, NUMBERS], WHITE)
    assert {name: rows.shape for name, rows in both.items()} == {"image": (1, 28, 28, 1), "numbers": (1, 6)}


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("white.png", [NUMBERS], "takes no picture, but float32 \\[6\\] as numbers"),
        ("white.png", [IMAGE, NUMBERS], "one array, and the model takes"),
        ("numbers.npy", [IMAGE], "holds float32 \\[6\\]; the model's image is uint8 \\[28, 28, 1\\]"),
        ("both.npz", [NUMBERS], "holds image, numbers; the model takes float32 \\[6\\] as numbers"),
        ("nothing.png", [IMAGE], "does not exist"),
        ("nothing.png", [NUMBERS], "does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(
    files: Path, name: str, inputs: list[TensorSpec], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        samples.read(files / name, inputs, WHITE)


def test_what_is_no_picture_is_refused(files: Path) -> None:
    (files / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png cannot be read"):
        samples.read(files / "text.png", [IMAGE], WHITE)


def test_pictures_that_would_come_out_wrong_are_refused(files: Path) -> None:
    Image.fromarray(np.full((28, 28), 40_000, np.uint16)).save(files / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png cannot be read: more than 8 bits for each pixel and channel"):
        samples.read(files / "deep.png", [IMAGE], WHITE)


@pytest.mark.parametrize("length", [20, 60, -30])
def test_damaged_pictures_are_refused(files: Path, length: int) -> None:
    (files / "damaged.png").write_bytes((files / "white.png").read_bytes()[:length])
    with pytest.raises(DataError, match=r"damaged\.png cannot be read"):
        samples.read(files / "damaged.png", [IMAGE], WHITE)
