"""Pictures as people have them: the same pixels by every way in, converted as documented or refused."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_sets import model

from pipeline import data
from pipeline.config import Data
from pipeline.data import pictures, samples
from pipeline.data.pictures import Unreadable
from pipeline.errors import DataError
from pipeline.tensors import Array, TensorSpec

RAMP = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
Save = Callable[[Path], None]


def from_a_folder(path: Path, channels: int) -> Array:
    """Return the pixels as a model is trained on them."""
    dataset = data.load(Data(source=str(path.parent)))
    bound = data.bind(dataset, model({"photo": f"uint8 ? ? ? {channels}"}, {"kind": "float32 ? 2"}))
    return bound.test.feed()["photo"][0]


def from_predict(path: Path, channels: int) -> Array:
    """Return the pixels as `predict`, and `score` of a folder, take them."""
    spec = TensorSpec("photo", (None, None, None, channels), np.dtype(np.uint8))
    return samples.read(path, [spec], lambda _: 255.0)["photo"][0]


def from_bytes(path: Path, channels: int) -> Array:
    """Return the pixels as `score` takes them from a column of a Parquet file."""
    spec = TensorSpec("photo", (None, None, None, channels), np.dtype(np.uint8))
    return samples.picture(io.BytesIO(path.read_bytes()), spec, 255.0)


WAYS = (from_a_folder, from_predict, from_bytes)


def three(folder: Path, name: str, save: Save) -> Path:
    """Save a picture under three names, which a data set of three splits needs; return one of them."""
    folder.mkdir(exist_ok=True)
    for number in range(3):
        save(folder / f"{number}{name}")
    return folder / f"0{name}"


def turned(orientation: int) -> Save:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return lambda path: Image.fromarray(RAMP).save(path, exif=exif, lossless=True)


# How a viewer shows the stored rows and columns (Exif 2.32, tag 274).
SHOWN = {
    1: RAMP,
    2: RAMP[:, ::-1],
    3: RAMP[::-1, ::-1],
    4: RAMP[::-1],
    5: RAMP.transpose(1, 0, 2),
    6: RAMP.transpose(1, 0, 2)[:, ::-1],
    7: RAMP.transpose(1, 0, 2)[::-1, ::-1],
    8: RAMP.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_orientation_is_honoured_by_every_way_in(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = three(tmp_path / "in", suffix, turned(orientation))
    for way in WAYS:
        np.testing.assert_array_equal(way(path, 3), SHOWN[orientation], err_msg=way.__name__)


def of_mode(mode: str) -> Save:
    return lambda path: Image.fromarray(RAMP).convert(mode).save(path)


def opaque(path: Path) -> None:
    Image.fromarray(RAMP).convert("RGBA").save(path)


@pytest.mark.parametrize(
    ("name", "save", "expected"),
    [
        (".png", of_mode("L"), np.asarray(Image.fromarray(RAMP).convert("L"))),
        (".png", of_mode("LA"), np.asarray(Image.fromarray(RAMP).convert("L"))),
        (".png", of_mode("1"), np.asarray(Image.fromarray(RAMP).convert("1").convert("L"))),
        (".png", opaque, np.asarray(Image.fromarray(RAMP).convert("L"))),
        (".bmp", of_mode("RGB"), np.asarray(Image.fromarray(RAMP).convert("L"))),
    ],
    ids=["grey", "grey with opacity", "one bit", "opaque", "BMP"],
)
def test_what_can_be_converted_is_the_same_by_every_way_in(
    tmp_path: Path, name: str, save: Save, expected: Array
) -> None:
    path = three(tmp_path / "in", name, save)
    for way in WAYS:
        np.testing.assert_array_equal(way(path, 1)[..., 0], expected, err_msg=way.__name__)


def test_the_colours_of_print_are_converted(tmp_path: Path) -> None:
    path = three(tmp_path / "in", ".jpg", lambda path: Image.new("CMYK", (12, 10), (255, 0, 0, 0)).save(path))
    for way in WAYS:
        assert np.abs(way(path, 3).reshape(-1, 3).mean(axis=0) - [0, 255, 255]).max() < 3, way.__name__


def transparent(path: Path) -> None:
    Image.new("RGBA", (12, 10), (200, 200, 200, 9)).save(path)


def transparent_palette(path: Path) -> None:
    palette = Image.new("RGB", (12, 10), (9, 9, 9)).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(path, transparency=palette.getpixel((0, 0)))


def transparent_colour(path: Path) -> None:
    Image.new("RGB", (12, 10), (1, 2, 3)).save(path, transparency=(1, 2, 3))


def deep_grey(path: Path) -> None:
    Image.fromarray(np.full((10, 12), 40_000, np.uint16)).save(path)


def deep_colour(path: Path) -> None:
    """Save a PNG of 16 bits for each of three channels, which Pillow reads but does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(12 * 6) for _ in range(10))
    header = struct.pack(">IIBBBBB", 12, 10, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (12, 10), (shade, 0, 0)) for shade in (0, 100, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def other_format(path: Path) -> None:
    Image.fromarray(RAMP).save(path, format="TIFF")


def bomb(path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(path)


@pytest.mark.parametrize(
    ("suffix", "save", "said"),
    [
        (".png", transparent, "transparent pixels"),
        (".webp", transparent, "transparent pixels"),
        (".png", transparent_palette, "transparent pixels"),
        (".png", transparent_colour, "transparent pixels"),
        (".png", deep_grey, "more than 8 bits"),
        (".png", deep_colour, "more than 8 bits"),
        (".png", animated, "several frames"),
        (".webp", animated, "several frames"),
        (".png", other_format, "none of PNG, JPEG, WEBP, BMP"),
        (".png", bomb, "decompression bomb"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_what_would_be_misread_is_refused_by_every_way_in(
    tmp_path: Path, suffix: str, save: Save, said: str, way: Callable[[Path, int], Array]
) -> None:
    path = three(tmp_path / "in", suffix, save)
    with pytest.raises((DataError, Unreadable), match=said):
        way(path, 3)


def test_transparency_is_kept_where_the_model_takes_it(tmp_path: Path) -> None:
    path = three(tmp_path / "in", ".png", transparent)
    for way in WAYS:
        assert (way(path, 4) == [200, 200, 200, 9]).all(), way.__name__


def _encoded() -> list[bytes]:
    found = []
    for kind, mode in (("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("BMP", "L")):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {} if kind == "BMP" else {"exif": exif}
        Image.fromarray(RAMP).convert(mode).save(file, kind, **options)
        found.append(file.getvalue())
    return found


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(_encoded()), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=8), st.integers(0)
)
def test_damaged_bytes_become_pixels_or_are_refused(raw: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(raw)
    for place, byte in changes:
        content[place % len(raw)] = byte
    content = content[: len(raw) - cut % len(raw) // 4]
    with suppress(Unreadable):  # and nothing else
        found = pictures.pixels(io.BytesIO(bytes(content)), 3, (10, 12))
        assert (found.shape, found.dtype) == ((10, 12, 3), np.uint8)
