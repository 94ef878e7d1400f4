"""Pictures as a model takes them: the one way from a file to pixels, for folders of images, `predict` and `score`.

What is converted, and what is refused because nobody can tell how it is meant, is in docs/usage.md.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from pipeline.tensors import Array

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""What is decoded. Pillow runs other programs for some that it knows, such as Ghostscript for EPS."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for grey, colour, and colour with transparency, by the number of channels."""

ANIMATED = ("PNG", "WEBP")
"""The formats whose further frames are shown in time. A JPEG's are previews or depth beside the one picture."""

ON_THEIR_SIDE = (5, 6, 7, 8)
"""The orientations of EXIF whose rows are shown as columns."""

OPAQUE = 255


class Unreadable(ValueError):  # noqa: N818  says what is the matter
    """A picture that cannot be decoded, or not without guessing what is meant; the message says why."""


class Header(NamedTuple):
    """What is known of a picture from the beginning of its file, the right way up."""

    height: int
    width: int
    grey: bool


def header(file: Path) -> Header:
    """Return a picture's size, and whether it is grey. Errors as `pixels`, but for those of its content."""
    with _opened(file) as image:
        width, height = image.size
        if image.getexif().get(Base.Orientation) in ON_THEIR_SIDE:
            width, height = height, width
        return Header(height, width, image.mode in ("1", "L", "LA"))


def pixels(file: Path | IO[bytes], channels: int, size: tuple[int | None, int | None]) -> Array:
    """Return a picture's pixels, uint8 [height, width, channels], the right way up.

    Args:
        file: a file of one of `FORMATS`, or its bytes.
        channels: 1, 3 or 4: grey, colour, colour with transparency.
        size: the height and the width to bring it to; None: its own.

    Raises:
        Unreadable: it is no picture, is damaged, has so many pixels that it would take the memory, more than 8 bits for
            each pixel and channel, several frames, or transparent pixels where the model takes none.
    """
    with _opened(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if channels < 4 and np.asarray(image.getchannel("A")).min() < OPAQUE:
                raise Unreadable("transparent pixels: save it on the ground that the model knows, as white or black")
        image = image.convert(MODES[channels])
        height, width = size[0] or image.height, size[1] or image.width
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.array(image, np.uint8).reshape(height, width, channels)


@contextmanager
def _opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture without decoding it; whatever Pillow raises in the block becomes Unreadable.

    Raises:
        Unreadable: see `pixels`.
        FileNotFoundError: there is no such file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it passes over, as EXIF data that are damaged
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                _refuse_what_would_be_misread(image)
                yield image
    except (Unreadable, FileNotFoundError):
        raise
    except UnidentifiedImageError as error:  # whose message has the address of bytes
        raise Unreadable(f"none of {', '.join(FORMATS)}, or damaged at its beginning") from error
    except Exception as error:  # whatever damaged or hostile bytes make of a decoder
        raise Unreadable(f"{error or type(error).__name__}") from error


def _refuse_what_would_be_misread(image: Image.Image) -> None:
    """Raise Unreadable for what Pillow would cut down to 8 bits in a way of its own, or to one frame of several."""
    # Grey of 16 bits has a mode of its own, colour of 16 bits is told by how its bytes are laid out alone.
    deep = image.mode[0] in "IF" or any(str(tile[3]).endswith(";16B") for tile in getattr(image, "tile", ()))
    if deep:
        raise Unreadable("more than 8 bits for each pixel and channel: convert it to 8 bits")
    if image.format in ANIMATED and getattr(image, "n_frames", 1) > 1:
        raise Unreadable("several frames: save the one that is meant as a picture of its own")
